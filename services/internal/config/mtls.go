package config

import (
	"fmt"
	"strings"
)

// MTLS names the files by which the services know each other. Changed files are read again at the next connection.
type MTLS struct {
	// CAFile holds the authority of all services' certificates.
	CAFile string `yaml:"ca_file"`
	// CertFile is this process' own certificate with its chain; empty: calls between services are not encrypted.
	CertFile string `yaml:"cert_file"`
	// KeyFile is its key.
	KeyFile string `yaml:"key_file"`
	// ServerName is what a service's certificate must say, if it is not the host that is dialed.
	ServerName string `yaml:"server_name"`
}

func (c *checker) mtls(m MTLS) {
	c.pair("mtls", m.CertFile, m.KeyFile)
	if (m.CAFile == "") != (m.CertFile == "") {
		c.report("mtls", "ca_file and cert_file belong together: name both, or neither")
	}
	for path, file := range map[string]string{"mtls.ca_file": m.CAFile, "mtls.cert_file": m.CertFile, "mtls.key_file": m.KeyFile} {
		c.file(path, file)
	}
}

// services checks where services are: one address, or several with commas between them.
func (c *checker) services(services map[string]string) {
	for name, addrs := range services {
		path := fmt.Sprintf("services.%s", name)
		c.oneOf(path, name, ServiceNames()...)
		for addr := range strings.SplitSeq(addrs, ",") {
			c.listen(path, strings.TrimSpace(addr), true)
		}
	}
}
