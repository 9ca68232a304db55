//go:build monitoring

package monitoring_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// world is a mesh of separate processes with a source for each thing that may go wrong.
type world struct {
	*topology.Mesh
	t     *testing.T
	stack *stack
	wiki  *wiki
	ca    *authority
	n     atomic.Int64
}

// clockKey signs deliveries whose signature covers a time.
const clockKey = "a secret of more than 24 bytes"

const sources = `  - name: docs
    preset: generic-hmac
    settings: {ordering: monotonic}
    secrets: [{value: %[1]s}]
    content: {inline: content, title: title}
    rate: {per_second: -1}
  - {name: late, preset: generic-hmac, secrets: [{value: %[1]s}], content: {inline: content}}
  - {name: forged, preset: generic-hmac, secrets: [{value: %[1]s}], content: {inline: content}}
  - {name: broken, preset: generic-hmac, secrets: [{value: %[1]s}], content: {inline: content}}
  - {name: rotated, preset: generic-hmac, secrets: [{value: a new one}, {value: %[1]s}], content: {inline: content}}
  - {name: busy, preset: generic-hmac, secrets: [{value: %[1]s}], content: {fetch: "%[2]s/pages/{document_id}", body: body, version: version}, rate: {per_second: 0.5, burst: 1}}
  - {name: guarded, preset: generic-hmac, secrets: [{value: %[1]s}], content: {fetch: "%[2]s/guarded/{document_id}", body: body, version: version}}
  - name: ordered
    preset: generic-hmac
    settings: {ordering: contiguous}
    secrets: [{value: %[1]s}]
    content: {inline: content}
    ordering: {gap_timeout: 1h}
  - name: wiki
    preset: generic-hmac
    settings: {ordering: monotonic}
    secrets: [{value: %[1]s}]
    content: {fetch: "%[2]s/pages/{document_id}", body: body, title: title, version: version}
    poll: {changes: "%[2]s/changes?cursor={cursor}", interval: 2s, sweep_interval: 45s}
  - {name: clocked, preset: standard-webhooks, secrets: [{value: %[3]s}], content: {inline: data.content}}
`

// startWorld starts it: two gateways and one of every other service, as in the compose file, that trust each other by certificates.
func startWorld(ctx context.Context, t *testing.T) *world {
	t.Helper()
	w := &world{t: t, wiki: newWiki(t), ca: newAuthority(t)}
	w.ca.issue(t, 30*24*time.Hour)
	var err error
	w.Mesh, err = topology.Start(ctx, topology.Options{
		Dir: t.TempDir(), Binary: mesh.Binary(t), Partitions: 4, Replicas: map[string]int{"gateway": 2},
		Config: fmt.Sprintf(`mtls: {ca_file: %[1]s/ca.pem, cert_file: %[1]s/cert.pem, key_file: %[1]s/key.pem}
embedder: {breaker: {first: 1s, longest: 2s}}
`, w.ca.dir),
		Sources: fmt.Sprintf(sources, topology.Secret, w.wiki.url, base64.StdEncoding.EncodeToString([]byte(clockKey))),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Kill)
	return w
}

// discover tells Prometheus of every process that runs, and of no other: so does Docker's name server, which the deployed file asks.
func (w *world) discover() {
	w.t.Helper()
	var targets []string
	for _, in := range w.Instances {
		if in.Running() {
			targets = append(targets, in.Admin)
		}
	}
	raw, err := json.Marshal([]map[string]any{{"targets": targets}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.stack.write("targets.json", string(raw))
}

// change is a webhook of generic-hmac.
type change struct {
	DocumentID string `json:"document_id"`
	EventID    string `json:"event_id"`
	Action     string `json:"action"`
	Sequence   int64  `json:"sequence,omitempty"`
	Title      string `json:"title"`
	Content    string `json:"content"`
	OccurredAt string `json:"occurred_at,omitempty"`
}

// next is a change of a document of a few, the newest of all.
func (w *world) next() change {
	n := w.n.Add(1)
	return change{DocumentID: fmt.Sprint("doc-", n%40), EventID: fmt.Sprint("event-", n), Action: "updated", Sequence: n, Title: "T", Content: fmt.Sprintf("The text of number %d.", n)}
}

// send delivers a change, signed with the source's secret, and returns the status.
func (w *world) send(source string, c change) int {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // texts and numbers can be encoded
	}
	return w.sendRaw(source, body, topology.Secret)
}

func (w *world) sendRaw(source string, body []byte, secret string) int {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return w.post(source, body, map[string]string{"X-Signature": "sha256=" + hex.EncodeToString(mac.Sum(nil))})
}

// sendClocked delivers something that was sent at a time.
func (w *world) sendClocked(at time.Time) int {
	n := w.n.Add(1)
	body := fmt.Sprintf(`{"type":"page.updated","data":{"id":"clocked","version":%d,"content":"C"}}`, n)
	id, sent := fmt.Sprint("msg_", n), strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(clockKey))
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, sent, body)
	return w.post("clocked", []byte(body), map[string]string{
		"Webhook-Id": id, "Webhook-Timestamp": sent, "Webhook-Signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	})
}

// post posts to a gateway that runs and is not frozen: the first. No answer is status 0.
func (w *world) post(source string, body []byte, headers map[string]string) int {
	req, err := http.NewRequest(http.MethodPost, "http://"+w.Of("gateway")[0].HTTP+"/webhooks/"+source, bytes.NewReader(body))
	if err != nil {
		panic(err) // the URL is ours
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	client := http.Client{Timeout: 15 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// call asks the API.
func (w *world) call(method, path string, body string) error {
	req, err := http.NewRequest(method, "http://"+w.Of("gateway")[0].HTTP+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 15 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(path + ": " + res.Status)
	}
	return nil
}

// newest is the version of all pages: no webhook tells of a later one.
const newest = 1_000_000_000

// wiki is a source with an API: a list of pages, some of which are told of to sweeps alone.
type wiki struct {
	url     string
	refuses atomic.Bool // the pages under /guarded/

	mu     sync.Mutex
	pages  []string
	hidden []string
}

func newWiki(t *testing.T) *wiki {
	w := &wiki{}
	for i := range 20 {
		w.pages = append(w.pages, fmt.Sprint("page-", i))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pages/{id}", func(rw http.ResponseWriter, r *http.Request) {
		w.answer(rw, map[string]any{"title": r.PathValue("id"), "body": "The text of " + r.PathValue("id"), "version": newest})
	})
	mux.HandleFunc("GET /guarded/{id}", func(rw http.ResponseWriter, r *http.Request) {
		if w.refuses.Load() {
			http.Error(rw, "not you", http.StatusUnauthorized)
			return
		}
		w.answer(rw, map[string]any{"body": "The text of " + r.PathValue("id"), "version": newest})
	})
	mux.HandleFunc("GET /changes", w.list)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

// hide adds pages of which the list of changes says nothing: who knows them missed no poll.
func (w *wiki) hide(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		w.hidden = append(w.hidden, fmt.Sprint("hidden-", len(w.hidden)))
	}
}

func (w *wiki) list(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes := []map[string]any{}
	if r.FormValue("cursor") == "" {
		for _, id := range append(append([]string{}, w.pages...), w.hidden...) {
			changes = append(changes, map[string]any{"id": id, "version": newest, "updated_at": time.Now().Unix()})
		}
	}
	w.answer(rw, map[string]any{"changes": changes, "next_cursor": "1", "has_more": false})
}

func (*wiki) answer(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v)
}

// authority issues the certificates by which the services know each other. All of them share one.
type authority struct {
	dir    string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	serial int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.serial = 1
	a.file(t, "ca.pem", "CERTIFICATE", der)
	return a
}

// issue puts a certificate that is good for so long in the place of the last one.
func (a *authority) issue(t *testing.T, good time.Duration) {
	t.Helper()
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: "hookmesh"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(good),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	// One key for all: whoever reads between the two files has a pair that fits.
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.file(t, "key.pem", "PRIVATE KEY", key)
	a.file(t, "cert.pem", "CERTIFICATE", der)
}

func (a *authority) file(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}
