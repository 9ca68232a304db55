package tlsfiles_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/kafka/kafkatest"
	"github.com/hookmesh/hookmesh/services/internal/tlsfiles"
)

// identity writes a certificate authority of its own into dir and opens it.
func identity(t *testing.T, dir string) *tlsfiles.Source {
	t.Helper()
	kafkatest.WriteCertificates(t, dir)
	s, err := tlsfiles.Open(tlsfiles.Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake connects both sides and returns why it failed, if it did.
func shake(t *testing.T, server *tlsfiles.Source, client *tls.Config) error {
	t.Helper()
	cfg, err := server.Server()
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Write([]byte("x")) // shakes hands; the client says how it went
			_ = conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		<-served
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Read(make([]byte, 1)) // the server refuses a client after the client is done
	<-served
	return err
}

func TestOnlyThoseOfTheSameAuthorityMeet(t *testing.T) {
	ours, theirs := identity(t, t.TempDir()), identity(t, t.TempDir())
	if err := shake(t, ours, ours.Client("127.0.0.1")); err != nil {
		t.Errorf("our own were refused: %v", err)
	}
	if err := shake(t, ours, theirs.Client("127.0.0.1")); err == nil {
		t.Error("a server of another authority was trusted")
	}
	if err := shake(t, ours, ours.Client("another.example")); err == nil {
		t.Error("a certificate for another name was trusted")
	}
	stranger := ours.Client("127.0.0.1")
	stranger.Certificates = theirs.Client("127.0.0.1").Certificates
	if err := shake(t, ours, stranger); err == nil {
		t.Error("a client of another authority was let in")
	}
	stranger.Certificates = nil
	if err := shake(t, ours, stranger); err == nil {
		t.Error("a client without a certificate was let in")
	}
}

func TestChangedFilesCountFromTheNextHandshakeOn(t *testing.T) {
	dir := t.TempDir()
	s := identity(t, dir)
	old := s.Client("127.0.0.1")
	before := s.NotAfter()
	kafkatest.WriteCertificates(t, dir)
	later := time.Now().Add(time.Hour)
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		if err := os.Chtimes(filepath.Join(dir, name), later, later); err != nil {
			t.Fatal(err)
		}
	}
	if err := shake(t, s, s.Client("127.0.0.1")); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if err := shake(t, s, old); err == nil {
		t.Error("the old authority still counts")
	}
	if s.NotAfter().Before(before) {
		t.Error("the end of the new certificate is not known")
	}
}

func TestAHalfWrittenChangeLeavesTheOldCertificateInUse(t *testing.T) {
	dir := t.TempDir()
	kafkatest.WriteCertificates(t, dir)
	var failures int
	s, err := tlsfiles.Open(tlsfiles.Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}, func(error) { failures++ })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := shake(t, s, s.Client("127.0.0.1")); err != nil || failures == 0 {
		t.Errorf("%v, %d failures told", err, failures)
	}
}
