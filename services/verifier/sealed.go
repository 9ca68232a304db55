package verifier

import (
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/seal"
)

// CheckSealed says whether keys open what is sealed in a source's record.
func CheckSealed(keys *seal.Ring, name string, sealed []byte) error {
	if keys == nil {
		return fmt.Errorf("source %s was made at run time, and there is no key to open its secrets: name the old secrets.key in verifier.keys", name)
	}
	if _, err := keys.Open(recordOwner(name), sealed); err != nil {
		return fmt.Errorf("source %s, which was made at run time, cannot be decrypted: %w; name the old secrets.key in verifier.keys", name, err)
	}
	return nil
}
