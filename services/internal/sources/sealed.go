// Package sources tells the services of the mesh which sources there are now: those of the configuration file, and those that were
// made at run time, which the verifier keeps.
package sources

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/seal"
)

func owner(name string) string { return "hookmesh source definition\x00" + name }

// Seal is a definition as it travels between services: for everybody without credentials, and whole for who has the keys.
func Seal(keys *seal.Ring, name string, d config.Definition) (public, sealed []byte, err error) {
	public, err = json.Marshal(d.Redact())
	if err == nil {
		sealed, err = json.Marshal(d)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encode the definition of source %s: %w", name, err)
	}
	return public, keys.Seal(owner(name), sealed), nil
}

func secretsOwner(name string) string { return "hookmesh source secrets\x00" + name }

// travelling is a secret on its way between services.
type travelling struct {
	Value    string    `json:"value"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Kind     string    `json:"kind,omitempty"`
	For      string    `json:"for,omitempty"`
}

// String hides the secret from every log and error.
func (travelling) String() string { return config.Redacted }

// GoString hides the secret from %#v.
func (travelling) GoString() string { return config.Redacted }

// SealSecrets are the secrets of a source as they travel to who subscribes for it.
func SealSecrets(keys *seal.Ring, name string, secrets []config.Secret) ([]byte, error) {
	list := make([]travelling, len(secrets))
	for i, s := range secrets {
		list[i] = travelling{s.Value, s.NotAfter, s.Kind, s.For}
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode the secrets of source %s: %w", name, err)
	}
	return keys.Seal(secretsOwner(name), raw), nil
}

// openSecrets undoes SealSecrets. The error does not quote what was sealed.
func openSecrets(keys *seal.Ring, name string, sealed []byte) (out []config.Secret, err error) {
	raw, err := keys.Open(secretsOwner(name), sealed)
	if err != nil {
		return nil, fmt.Errorf("the secrets of source %s: %w: this process needs the verifier's keys (verifier.keys)", name, err)
	}
	var list []travelling
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the secrets of source %s cannot be read", name)
	}
	for _, s := range list {
		out = append(out, config.Secret{Value: s.Value, NotAfter: s.NotAfter, Kind: s.Kind, For: s.For})
	}
	return out, nil
}

// open undoes Seal. The error does not quote what was sealed.
func open(keys *seal.Ring, name string, sealed []byte) (config.Source, error) {
	raw, err := keys.Open(owner(name), sealed)
	if err != nil {
		return config.Source{}, fmt.Errorf("source %s: %w: this process needs the verifier's keys (verifier.keys)", name, err)
	}
	var d config.Definition
	if err := json.Unmarshal(raw, &d); err != nil {
		return config.Source{}, fmt.Errorf("source %s: its definition cannot be read", name)
	}
	return config.ParseDefinition(name, d)
}

// public reads what everybody may know of a definition. Credentials read as they are shown.
func public(name string, raw []byte) (config.Source, error) {
	var d config.Definition
	if err := json.Unmarshal(raw, &d); err != nil {
		return config.Source{}, fmt.Errorf("source %s: its definition cannot be read", name)
	}
	return config.ParseShown(name, d)
}
