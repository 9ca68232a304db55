package presets_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/verifier/preset"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

var update = flag.Bool("update", false, "write docs/preset.schema.json anew")

const schemaFile = "../../../docs/preset.schema.json"

func TestTheSchemaForEditorsIsWhatTheTypesSay(t *testing.T) {
	schema, err := preset.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, schema, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if committed, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(committed, schema) {
		t.Errorf("%s is stale (%v): run `go test ./verifier/presets -run Schema -update` in services/ and commit it", schemaFile, err)
	}
	if bytes.Count(schema, []byte(`"description"`)) < 80 {
		t.Error("the schema lacks descriptions")
	}
}

func TestEveryPresetIsInAFileOfItsNameAndLintsClean(t *testing.T) {
	all, err := presets.Load("")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(all.Names()); n < 88 {
		t.Errorf("%d presets", n)
	}
	for _, name := range all.Names() {
		p, err := all.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.Source(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, problem := range p.Lint() {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// TestEveryProviderThatIsAskedForIsThere names what the issue names.
func TestEveryProviderThatIsAskedForIsThere(t *testing.T) {
	all, err := presets.Load("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(`confluence jira jira-connect slack github gitlab notion zendesk google-drive microsoft-graph sharepoint dropbox box
		intercom hubspot salesforce freshdesk linear asana airtable contentful discourse guru front stripe shopify twilio sendgrid zoom discord meta-whatsapp
		pagerduty sentry typeform calendly trello clickup monday figma bitbucket azure-devops standard-webhooks generic-hmac
		gitea ghost strapi contentstack sanity storyblok prismic wordpress bookstack outline gitbook readme document360 helpjuice helpscout kustomer gorgias
		freshservice servicenow webflow coda productboard aha shortcut miro loom gong fireflies okta auth0 supabase clerk resend mailgun postmark paddle paypal
		twitch x docusign adobe-sign svix openai cloudevents websub`) {
		if _, err := all.Get(name); err != nil {
			t.Errorf("there is no preset %s", name)
		}
	}
}

func TestAUsersOwnPresetsComeFromAFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mine.yaml", "name: mine\nverify: [{algorithm: token, signature: {header: X-Token}}]\nevents: [{document_id: [id], action: ['\"upsert\"']}]\n")
	write("mine.vectors.yaml", "- {}\n")
	all, err := presets.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !all.Own("mine") || all.Own("github") {
		t.Error("whose is whose is mixed up")
	}
	first, err := all.Compile("mine", nil, preset.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := all.Compile("mine", nil, preset.Overrides{}); again != first {
		t.Error("the same preset was compiled twice")
	}
	write("github.yaml", "name: github\nverify: [{algorithm: none}]\nevents: [{ignore: x}]\n")
	write("bad.yaml", "name: bad\nverify: [{algorithm: nonsense}]\nevents: [{ignore: x}]\n")
	write("unknown.yaml", "name: unknown\nsignature: {}\n")
	_, err = presets.Load(dir)
	for _, want := range []string{`already a preset "github"`, "nonsense", "field signature not found"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := presets.Load(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a folder that is not there was taken for an empty one")
	}
}

func TestTheExampleInTheDocumentationIsRight(t *testing.T) {
	page, err := os.ReadFile("../../../docs/presets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	p, err := preset.Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range p.Lint() {
		t.Error(problem)
	}
}
