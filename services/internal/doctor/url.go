package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	urlPatience = 10 * time.Second
	// certificateWarning is how long before its end a certificate is told of: automatic renewal has failed by then.
	certificateWarning = 14 * 24 * time.Hour
)

// CheckURL calls a source's public URL as the provider does, but without a signature: hookmesh has to refuse it. Certificates are
// verified against roots; nil: the system's, as most providers do.
func CheckURL(ctx context.Context, source, public string, roots *x509.CertPool, now time.Time) []Finding {
	finding := func(status Status, message, advice string) []Finding {
		return []Finding{{"public-url", source, status, message, advice}}
	}
	u, err := url.Parse(public)
	if err != nil || u.Host == "" {
		return finding(Problem, "public_url is not a URL", "write down the address that the provider calls")
	}
	ctx, cancel := context.WithTimeout(ctx, urlPatience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, public, bytes.NewReader([]byte("{}")))
	if err != nil {
		return finding(Problem, "public_url is not a URL", "write down the address that the provider calls")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "hookmesh-doctor")
	res, err := client.Do(req)
	if err != nil {
		message, advice := unreachable(err)
		return finding(Problem, fmt.Sprintf("%s: %s", u.Host, message), advice)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return finding(Problem, fmt.Sprintf("%s: the answer breaks off", u.Host), "look at the proxy in front")
	}
	out := answered(source, u, res, raw)
	if res.TLS == nil {
		return append(out, Finding{"tls", source, Warning, "the provider is to call plain HTTP", "most providers want https; secrets that travel in headers can be read on the way"})
	}
	return append(out, expiry(source, res.TLS.PeerCertificates, now))
}

// unreachable says in words why a connection failed.
func unreachable(err error) (message, advice string) {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &dns):
		return "the name cannot be found", "create its DNS record, or mend public_url"
	case errors.As(err, &unknown):
		return "its certificate's chain leads to no authority that is trusted", "serve the whole chain, the intermediate certificates too; providers refuse certificates of one's own"
	case errors.As(err, &name):
		return "its certificate is for another name", "get a certificate for this name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired", "renew it: providers refuse to deliver"
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer in time", "look at firewall and proxy; is the address reachable from outside?"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return "no connection: " + op.Err.Error(), "look at firewall and proxy; is the address reachable from outside?"
	}
	return "no answer over HTTP", "look at the proxy in front"
}

// answered judges who answered: only hookmesh refuses a delivery without a signature in this way.
func answered(source string, u *url.URL, res *http.Response, raw []byte) []Finding {
	var problem struct{ Code string }
	hookmesh := json.Unmarshal(raw, &problem) == nil && problem.Code != ""
	f := Finding{Check: "public-url", Subject: source}
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		f.Status, f.Message, f.Advice = Problem, fmt.Sprintf("%s redirects (HTTP %d)", u.Host, res.StatusCode), "providers do not follow redirects: public_url must be the final address"
	case hookmesh && problem.Code == "UNKNOWN_SOURCE":
		f.Status, f.Message, f.Advice = Problem, "hookmesh answers, but knows no source at this path", "the path has to end in /webhooks/"+source
	case hookmesh && res.StatusCode == http.StatusForbidden:
		f.Status, f.Message = OK, fmt.Sprintf("%s reaches hookmesh, which refuses an unsigned delivery (%s)", u.Host, problem.Code)
	case hookmesh && res.StatusCode >= 500:
		f.Status, f.Message, f.Advice = Problem, fmt.Sprintf("hookmesh answers HTTP %d %s", res.StatusCode, problem.Code), "its log says why"
	case hookmesh:
		f.Status, f.Message = OK, fmt.Sprintf("%s reaches hookmesh (HTTP %d %s)", u.Host, res.StatusCode, problem.Code)
	case res.StatusCode < 300:
		f.Status, f.Message, f.Advice = Warning, fmt.Sprintf("%s takes a delivery without a signature (HTTP %d)", u.Host, res.StatusCode), "is that hookmesh, and is the source meant to be unsigned?"
	default:
		f.Status, f.Message, f.Advice = Problem, fmt.Sprintf("%s answers HTTP %d, and it is not hookmesh that does", u.Host, res.StatusCode), "look at the routes of the proxy in front"
	}
	return []Finding{f}
}

// expiry is when the first certificate of the chain ends.
func expiry(source string, chain []*x509.Certificate, now time.Time) Finding {
	f := Finding{Check: "tls", Subject: source, Status: OK}
	if len(chain) == 0 {
		f.Status, f.Message = Unknown, "it showed no certificate"
		return f
	}
	first := chain[0].NotAfter
	for _, c := range chain {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	f.Message = fmt.Sprintf("the chain is trusted and valid until %s UTC", first.UTC().Format(time.DateTime))
	if first.Sub(now) < certificateWarning {
		f.Status, f.Advice = Warning, "renew it; when it ends, providers deliver no more"
	}
	return f
}
