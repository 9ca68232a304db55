package preset

import "time"

// Preset describes one provider. In every text, {{name}} stands for the setting of that name. Expressions are CEL.
type Preset struct {
	// Name is what a source's preset says; lower-case letters, digits and -.
	Name string `yaml:"name" need:"yes"`
	// Description is one line for `hookmesh presets list`.
	Description string `yaml:"description" need:"yes"`
	// Confidence is how sure the facts are: verified (a published vector or the provider's own code agrees), documented (the
	// provider's documentation says so) or unconfirmed (from memory or from others).
	Confidence string `yaml:"confidence" enum:"verified,documented,unconfirmed" need:"yes"`
	// References are where the facts come from.
	References []string `yaml:"references" need:"yes"`
	// Notes are what an operator has to know: rotation, limits, what has to be configured at the provider.
	Notes string `yaml:"notes"`
	// Settings are what a source may choose, with their defaults.
	Settings map[string]Setting `yaml:"settings"`
	// Methods that deliveries use; default POST. Handshakes may use others.
	Methods []string `yaml:"methods"`
	// Deadline is how long the provider waits for the answer; for information.
	Deadline time.Duration `yaml:"deadline"`
	// Verify lists the ways to prove authenticity. All whose guard holds are tried in their order; one has to succeed.
	Verify []Variant `yaml:"verify" need:"yes"`
	// Decode says how the body is read; the first whose guard holds; default json.
	Decode []Decode `yaml:"decode"`
	// Handshakes are answered instead of processed; the first whose guard and precondition hold.
	Handshakes []Handshake `yaml:"handshakes"`
	// Events say what deliveries mean; the first whose guard holds.
	Events []Rule `yaml:"events" need:"yes"`
	// Respond says what the provider expects to hear, where hookmesh's own answer will not do.
	Respond Respond `yaml:"respond"`
	// Redact says what must not be stored or passed on, besides what looks like a credential.
	Redact Redact `yaml:"redact"`
	// SignAs are headers that `hookmesh send` adds, besides signature and timestamp, for example {X-GitHub-Event: issues}.
	// {{random}} stands for a random id.
	SignAs map[string]string `yaml:"sign_as"`
}

// Setting is a parameter of a preset.
type Setting struct {
	// Default is its value where a source says nothing.
	Default string `yaml:"default"`
	// Description says what it is for.
	Description string `yaml:"description"`
}

// Field is where a value stands in the request: in exactly one of header, query and body.
type Field struct {
	// Header names the header; several header lines are several values.
	Header string `yaml:"header"`
	// Also names further headers that hold values of the same kind (a primary and a secondary signature).
	Also []string `yaml:"also"`
	// Query names the parameter of the URL.
	Query string `yaml:"query"`
	// Body is an expression over the decoded body.
	Body string `yaml:"body"`
	// Separator splits a value that lists several ("," in "t=1,v1=ab,v1=cd").
	Separator string `yaml:"separator"`
	// Prefix is what a value must begin with, and is cut off ("sha256=", "v1,", "t=").
	Prefix string `yaml:"prefix"`
}

// Variant is one way to prove authenticity.
type Variant struct {
	// When guards the variant; empty: always. It must not weaken it: what a header claims is not proven yet.
	When string `yaml:"when"`
	// Algorithm proves it. hash-… is a plain hash over a message with {secret} in it; token and basic compare; each compares a
	// value of every item; none proves nothing and only counts for sources with `unsigned: true`.
	Algorithm string `yaml:"algorithm" need:"yes" enum:"hmac-sha1,hmac-sha256,hmac-sha384,hmac-sha512,hash-sha1,hash-sha256,hash-sha512,ed25519,ecdsa-p256,rsa-sha1,rsa-sha256,rsa-pss-sha256,jwt,token,basic,each,none"`
	// Key says how the configured secret becomes a key.
	Key Key `yaml:"key"`
	// Signature is where the signature (or token) stands. It may stand there several times: one has to match.
	Signature Field `yaml:"signature"`
	// Items yields the items of each: every one of them has to carry the token at signature.body (over item).
	Items string `yaml:"items"`
	// For yields, for each, what the item's token belongs to (a subscription's id): a secret with `for` is good for that alone.
	For string `yaml:"for"`
	// Encoding of the signature: hex, base64 (any alphabet), p1363-base64 (ECDSA as r||s); empty: as it is.
	Encoding string `yaml:"encoding" enum:"hex,base64,p1363-base64"`
	// Message is what is signed: a template over {body}, {body:ascii} and {body:escaped} (with \uXXXX), {timestamp}, {id},
	// {method}, {url}, {url:port} (without its port, or with it), {url:decoded}, {path} (with query), {host}, {header:NAME},
	// {headers:NAME} (those that the header NAME lists), {form} (sorted fields), {secret}, {length}, {crc32} and {=EXPRESSION}.
	Message string `yaml:"message"`
	// Or are further messages that the same signature may be made over.
	Or []string `yaml:"or"`
	// ID is the header that {id} stands for; it has to be there.
	ID string `yaml:"id"`
	// Timestamp, if the signature covers one.
	Timestamp *Timestamp `yaml:"timestamp"`
	// JWT says what a token of algorithm jwt has to hold.
	JWT *JWT `yaml:"jwt"`
	// Digest is a hash of the body that the signed message holds, where the body itself is not in it.
	Digest *Digest `yaml:"digest"`
	// Require are conditions beyond the signature.
	Require []Assertion `yaml:"require"`
	// Assurance is how much of the delivery is proven: body (the default of signatures), sender (of token, basic, each and
	// jwt) or none. Below body, content is fetched and never taken from the delivery.
	Assurance string `yaml:"assurance" enum:"body,sender,none"`
}

// Key says how a secret becomes a key.
type Key struct {
	// Kind is the kind of secret, as the source's secrets[].kind says. Empty: secrets without a kind. A secret of one kind is
	// never used as another.
	Kind string `yaml:"kind"`
	// Strip lists prefixes of which the first that fits is cut off ("whsec_").
	Strip []string `yaml:"strip"`
	// Require is a prefix without which the secret is of another kind and not tried ("whpk_").
	Require string `yaml:"require"`
	// Refuse lists prefixes of secrets of another kind: a public key is never an HMAC key.
	Refuse []string `yaml:"refuse"`
	// Encoding is raw (default), base64 or hex. Public keys may also be PEM.
	Encoding string `yaml:"encoding" enum:"raw,base64,hex"`
}

// Timestamp is a signed time of sending, against replays.
type Timestamp struct {
	Field `yaml:",inline"`
	// Unit is auto (default: by size and form), s, ms, us or rfc3339.
	Unit string `yaml:"unit" enum:"auto,s,ms,us,rfc3339"`
	// Tolerance to the past; default 5m, negative: not checked.
	Tolerance time.Duration `yaml:"tolerance"`
	// Future is the tolerance to the future; default as Tolerance.
	Future time.Duration `yaml:"future"`
	// Unsigned: the signature does not cover it. It is then no defence and is not checked.
	Unsigned bool `yaml:"unsigned"`
}

// Digest is a hash of the body, at a place that the signature covers.
type Digest struct {
	Field `yaml:",inline"`
	// Algorithm is sha1, sha256 or sha512.
	Algorithm string `yaml:"algorithm" need:"yes" enum:"sha1,sha256,sha512"`
	// Encoding is hex or base64.
	Encoding string `yaml:"encoding" need:"yes" enum:"hex,base64"`
}

// JWT says what a JSON Web Token has to hold besides a right signature. exp, nbf and iat are always checked.
type JWT struct {
	// Algorithms are those that are accepted: HS256, RS256 or ES256. The token cannot choose another.
	Algorithms []string `yaml:"algorithms" need:"yes"`
	// Claims are expressions over the token's claims that have to hold. request_url, request_path, request_qsh (Atlassian's
	// hash of method, path and query), request_sha256 (of the body, hexadecimal) and request_sha256_base64 are those of the request.
	Claims []Assertion `yaml:"claims"`
	// MaxAge bounds the age of iat; 0: by exp alone.
	MaxAge time.Duration `yaml:"max_age"`
	// Leeway is how long a token is accepted beyond its exp; default 0.
	Leeway time.Duration `yaml:"leeway"`
	// NeedExp refuses tokens without exp (default true).
	NeedExp *bool `yaml:"need_exp"`
}

// Assertion is a condition.
type Assertion struct {
	// That has to hold.
	That string `yaml:"that" need:"yes"`
	// Reason says what is wrong if it does not.
	Reason string `yaml:"reason" need:"yes"`
}

// Decode says how a body is read.
type Decode struct {
	// When guards it; empty: always.
	When string `yaml:"when"`
	// As is json, json-lines (a list of the lines' values), form (fields become a JSON object), form-json (one field holds JSON),
	// xml (elements become objects: local names, @attributes, lists where they repeat) or none.
	As string `yaml:"as" need:"yes" enum:"json,json-lines,form,form-json,xml,none"`
	// Field holds the JSON of form-json; with json, the string field in which the real JSON stands.
	Field string `yaml:"field"`
}

// Handshake is a provider's question whether we are there.
type Handshake struct {
	// When says that the request is one.
	When string `yaml:"when" need:"yes"`
	// Methods that it uses; default those of the preset.
	Methods []string `yaml:"methods"`
	// Precondition is signed (default: the request's own signature is right), token (a secret of kind token.kind stands at
	// token), pending (the source has no secret yet) or open (anybody may ask; the answer must then give nothing away).
	Precondition string `yaml:"precondition" enum:"signed,token,pending,open"`
	// Token is where the token stands, and which kind of secret it is.
	Token *HandshakeToken `yaml:"token"`
	// Compute makes a signature that the answer holds as `computed`.
	Compute *Compute `yaml:"compute"`
	// Capture yields the secret that the provider hands over. Only with precondition pending.
	Capture string `yaml:"capture"`
	// Ignore answers as hookmesh does to what concerns no document.
	Ignore string `yaml:"ignore"`
	// Respond is the answer.
	Respond Answer `yaml:"respond"`
}

// HandshakeToken is a token that proves that the question comes from where the webhook was set up.
type HandshakeToken struct {
	Field `yaml:",inline"`
	// Kind is the kind of secret that it is compared to.
	Kind string `yaml:"kind"`
}

// Compute answers a question with a signature. So that nobody can have a delivery signed, the text must match Pattern, and
// Pattern must not match what signed messages look like.
type Compute struct {
	// Algorithm is hmac-sha256, hmac-sha1 or hmac-sha512.
	Algorithm string `yaml:"algorithm" need:"yes" enum:"hmac-sha1,hmac-sha256,hmac-sha512"`
	// Text yields what is signed.
	Text string `yaml:"text" need:"yes"`
	// Pattern is a regular expression that the whole text has to match; only letters, digits, _, - and = may be in it.
	Pattern string `yaml:"pattern" need:"yes"`
	// Encoding of the signature: hex or base64.
	Encoding string `yaml:"encoding" need:"yes" enum:"hex,base64"`
	// Key says which secret signs.
	Key Key `yaml:"key"`
}

// Answer is an HTTP answer.
type Answer struct {
	// Status is the HTTP status; default 200.
	Status int `yaml:"status"`
	// Headers by name; the values are expressions.
	Headers map[string]string `yaml:"headers"`
	// ContentType of the body; default text/plain.
	ContentType string `yaml:"content_type"`
	// Body is an expression that yields text; empty: no body. In Respond, it is over the decoded body as everywhere.
	Body string `yaml:"body"`
	// JSON are members of a JSON object that is the body, instead of Body; the values are expressions.
	JSON map[string]string `yaml:"json"`
}

// Respond says what the provider expects to hear, by outcome.
type Respond struct {
	// Accepted is also the answer to duplicates.
	Accepted *Answer `yaml:"accepted"`
	// Ignored: authentic, but concerns no document.
	Ignored *Answer `yaml:"ignored"`
	// Quarantined: authentic, but not understood.
	Quarantined *Answer `yaml:"quarantined"`
	// Rejected: not authentic. Its status has to be 4xx.
	Rejected *Answer `yaml:"rejected"`
}

// Redact says what must not be stored or passed on.
type Redact struct {
	// Headers by name.
	Headers []string `yaml:"headers"`
	// Fields are paths in the body ("a.b"; lists are looked through).
	Fields []string `yaml:"fields"`
}

// Rule says what a kind of delivery means.
type Rule struct {
	// When guards the rule; empty: always.
	When string `yaml:"when"`
	// Ignore is the reason why such a delivery concerns no document.
	Ignore string `yaml:"ignore"`
	// Quarantine is the reason why such a delivery cannot be understood.
	Quarantine string `yaml:"quarantine"`
	// Split yields the list of items, each of which is an event; empty: the delivery is one.
	Split string `yaml:"split"`
	// Nested yields, over an item, a list of items inside it; each of those is an event.
	Nested string `yaml:"nested"`
	// DocumentID, Action and the others are chains of expressions: the first that is not absent counts.
	DocumentID []string `yaml:"document_id"`
	// Parent is the document that upsert-parent changes.
	Parent []string `yaml:"parent"`
	// Containers are ids of what the document stands in (space, folder, repository), for subtree-deleted of a container.
	Containers []string `yaml:"containers"`
	// Action yields created, updated (or upsert), deleted (or delete), subtree-deleted (or delete-subtree), upsert-parent,
	// pull-changes (the source's list of changes has to be read), resync (all of it) or ignore. Absent: ignore.
	Action []string `yaml:"action"`
	// IdempotencyKey is the provider's id of the event. Absent: the signed request, or the content, is its identity.
	IdempotencyKey []string `yaml:"idempotency_key"`
	// Ordering is the mode.
	Ordering string `yaml:"ordering" enum:"contiguous,source-contiguous,monotonic,arrival"`
	// Sequence yields the position in that order, a whole number.
	Sequence []string `yaml:"sequence"`
	// Version is the document's version as the source writes it.
	Version []string `yaml:"version"`
	// OccurredAt is when it happened.
	OccurredAt []string `yaml:"occurred_at"`
	// Volatile are the paths that differ between two deliveries of the same thing.
	Volatile []string `yaml:"volatile"`
	// Inline is the whole content.
	Inline []string `yaml:"inline"`
	// Title of the document.
	Title []string `yaml:"title"`
	// URL where a person reads it.
	URL []string `yaml:"url"`
	// Format of Inline.
	Format string `yaml:"format" enum:"markdown,html,confluence-storage,plain"`
}
