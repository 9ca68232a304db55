// Package sources tells the services of the mesh which sources there are now: those of the configuration file, and those that were
// made at run time, which the verifier keeps.
package sources

import (
	"encoding/json"
	"fmt"

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
