package wiring

import (
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier"
)

// Check looks at what only the services can judge in a configuration, so that it is reported with everything else that is wrong.
func Check(cfg *config.Config, report func(path, message string)) {
	for i, src := range cfg.Sources {
		for field, err := range verifier.Check(src) {
			report(fmt.Sprintf("sources[%d].%s", i, field), err.Error())
		}
	}
}
