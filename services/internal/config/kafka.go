package config

import (
	"os"
	"regexp"
)

// KafkaTLS says whether and how the brokers are reached over TLS.
type KafkaTLS struct {
	// Enabled turns TLS on; the files alone do not, so that a forgotten line does not go unnoticed.
	Enabled bool `yaml:"enabled"`
	// CAFile holds the authorities of the brokers' certificates; empty: those of the system.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are shown to brokers that ask for a client certificate.
	CertFile string `yaml:"cert_file"`
	// KeyFile belongs to CertFile.
	KeyFile string `yaml:"key_file"`
	// ServerName is what the brokers' certificates must say, if it is not the host that is dialed.
	ServerName string `yaml:"server_name"`
}

// KafkaSASL is how the mesh proves to the brokers who it is.
type KafkaSASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512; empty: none.
	Mechanism string `yaml:"mechanism"`
	// Username at the brokers.
	Username string `yaml:"username"`
	// Password, usually "${VARIABLE}". It is never logged.
	Password string `yaml:"password"`
}

// String hides the password from every log and error.
func (s KafkaSASL) String() string { return s.Mechanism + " as " + s.Username + " [redacted]" }

// GoString hides the password from %#v.
func (s KafkaSASL) GoString() string { return "config.KafkaSASL{" + s.String() + "}" }

// instanceID is what Kafka takes as group.instance.id, or nothing.
var instanceID = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,249}$`)

// kafka checks how the brokers are reached.
func (c *checker) kafka(k Kafka) {
	c.oneOf("kafka.sasl.mechanism", k.SASL.Mechanism, "", "plain", "scram-sha-256", "scram-sha-512")
	if k.SASL.Mechanism != "" {
		for path, value := range map[string]string{"kafka.sasl.username": k.SASL.Username, "kafka.sasl.password": k.SASL.Password} {
			if value == "" {
				c.report(path, "is missing, but kafka.sasl.mechanism is set")
			}
		}
	}
	if len(k.Brokers) == 0 && (k.TLS.Enabled || k.SASL.Mechanism != "") {
		c.report("kafka.brokers", "is missing: the broker inside the process is reached without TLS and SASL")
	}
	if k.SASL.Mechanism == "plain" && !k.TLS.Enabled {
		c.report("kafka.sasl.mechanism", "plain sends the password as it is: turn kafka.tls.enabled on, or use scram-sha-256")
	}
	if !k.TLS.Enabled && (k.TLS.CAFile != "" || k.TLS.CertFile != "") {
		c.report("kafka.tls.enabled", "is not set, but files for TLS are")
	}
	if k.InstanceID != "" && len(k.Brokers) == 0 {
		c.report("kafka.instance_id", "means nothing to the broker inside the process: set kafka.brokers, or remove it")
	}
	if !instanceID.MatchString(k.InstanceID) {
		c.report("kafka.instance_id", "%q is not up to 249 letters, digits, dots, underscores and hyphens", k.InstanceID)
	}
	c.pair("kafka.tls", k.TLS.CertFile, k.TLS.KeyFile)
	for path, file := range map[string]string{"kafka.tls.ca_file": k.TLS.CAFile, "kafka.tls.cert_file": k.TLS.CertFile, "kafka.tls.key_file": k.TLS.KeyFile} {
		c.file(path, file)
	}
	if k.MinInSyncReplicas < 0 || k.MinInSyncReplicas > k.ReplicationFactor {
		c.report("kafka.min_in_sync_replicas", "%d is not between 1 and kafka.replication_factor, which is %d", k.MinInSyncReplicas, k.ReplicationFactor)
	}
}

// pair wants a certificate and its key together.
func (c *checker) pair(path, cert, key string) {
	if (cert == "") != (key == "") {
		c.report(path, "cert_file and key_file belong together: name both, or neither")
	}
}

// file wants a file that can be read.
func (c *checker) file(path, name string) {
	if name == "" {
		return
	}
	f, err := os.Open(name)
	if err != nil {
		c.report(path, "cannot be read: %v", err)
		return
	}
	_ = f.Close()
}
