package notion

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/rest"
)

const (
	// maxDepth and maxBlocks bound a page: every block with children is a request.
	maxDepth  = 20
	maxBlocks = 20_000
)

// richText is a text with styles, of which links matter to a reader.
// https://developers.notion.com/reference/rich-text
type richText []struct {
	PlainText string `json:"plain_text"`
	Href      string `json:"href"`
}

func (r richText) text() string {
	var b strings.Builder
	for _, t := range r {
		if t.Href != "" && t.Href != t.PlainText {
			fmt.Fprintf(&b, "[%s](%s)", t.PlainText, t.Href)
			continue
		}
		b.WriteString(t.PlainText)
	}
	return b.String()
}

type named struct{ Name, String, Start, End, Type string }

// property is a column's value of a page in a database: https://developers.notion.com/reference/page-property-values
type property struct {
	Type        string
	Title       richText `json:"title"`
	RichText    richText `json:"rich_text"`
	Number      json.RawMessage
	Select      *named
	Status      *named
	MultiSelect []named `json:"multi_select"`
	People      []named
	Date        *named
	URL, Email  string
	Phone       string `json:"phone_number"`
	Checkbox    bool
	Formula     *struct {
		Type, String string
		Number       json.RawMessage
	}
}

// UnmarshalJSON implements json.Unmarshaler. In a database's schema the same names hold other things, which are no text.
func (p *property) UnmarshalJSON(raw []byte) error {
	type plain property
	if err := json.Unmarshal(raw, (*plain)(p)); err != nil {
		*p = property{Type: p.Type}
	}
	return nil
}

func (p property) value() string {
	names := func(list []named) string {
		var out []string
		for _, n := range list {
			out = append(out, n.Name)
		}
		return strings.Join(out, ", ")
	}
	switch {
	case p.Select != nil:
		return p.Select.Name
	case p.Status != nil:
		return p.Status.Name
	case p.Date != nil:
		return strings.TrimSpace(p.Date.Start + " " + p.Date.End)
	case len(p.MultiSelect) > 0:
		return names(p.MultiSelect)
	case len(p.People) > 0:
		return names(p.People)
	case p.Formula != nil && p.Formula.String != "":
		return p.Formula.String
	case p.Formula != nil:
		return number(p.Formula.Number)
	case p.Type == "checkbox" && p.Checkbox:
		return "yes"
	}
	return p.RichText.text() + number(p.Number) + p.URL + p.Email + p.Phone
}

func number(raw json.RawMessage) string {
	if s := string(raw); s != "null" && !strings.HasPrefix(s, "{") {
		return s
	}
	return ""
}

// block is a piece of a page; what it holds stands under the name of its type: https://developers.notion.com/reference/block
type block struct {
	ID          string
	Type        string
	HasChildren bool `json:"has_children"`
	held        held
}

type held struct {
	RichText   richText   `json:"rich_text"`
	Caption    richText   `json:"caption"`
	Cells      []richText `json:"cells"`
	Language   string
	URL        string
	Title      string
	Expression string
	Checked    bool
	Name       string
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *block) UnmarshalJSON(raw []byte) error {
	type plain block
	if err := json.Unmarshal(raw, (*plain)(b)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	if err := json.Unmarshal(all[b.Type], &b.held); err != nil {
		b.held = held{} // a kind of block that is new, with fields of other types: its children may say something
	}
	return nil
}

// renderer writes a page as Markdown.
type renderer struct {
	client *rest.Client
	out    strings.Builder
	blocks int
}

func (r *renderer) line(depth int, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	indent := strings.Repeat("  ", depth)
	r.out.WriteString(indent + strings.ReplaceAll(text, "\n", "\n"+indent) + "\n\n")
}

// properties sets the title and writes what else a page's properties say, in the order of their names.
func (r *renderer) properties(p page, doc *connector.Document) {
	for _, name := range slices.Sorted(maps.Keys(p.Properties)) {
		v := p.Properties[name]
		if len(v.Title) > 0 && p.Object != "database" {
			doc.Title = v.Title.text()
			continue
		}
		if text := v.value(); text != "" {
			r.line(0, name+": "+text)
		} else if p.Object == "database" {
			r.line(0, "- "+name)
		}
	}
}

// children writes the blocks below a block: https://developers.notion.com/reference/get-block-children
func (r *renderer) children(ctx context.Context, id string, depth int) error {
	query := url.Values{"page_size": {"100"}}
	for {
		var list struct {
			Results []block
			HasMore bool   `json:"has_more"`
			Next    string `json:"next_cursor"`
		}
		if _, err := r.client.GetJSON(ctx, "v1/blocks/"+url.PathEscape(id)+"/children", query, &list); err != nil {
			return err
		}
		for _, b := range list.Results {
			if r.blocks++; r.blocks > maxBlocks {
				return connector.Permanent(fmt.Errorf("%w: the page has more than %d blocks", connector.ErrTooLarge, maxBlocks))
			}
			r.block(b, depth)
			// Child pages are documents of their own.
			if b.HasChildren && b.Type != "child_page" && b.Type != "child_database" && depth < maxDepth {
				if err := r.children(ctx, b.ID, depth+indents(b.Type)); err != nil {
					return err
				}
				if b.Type == "table" {
					r.out.WriteString("\n")
				}
			}
		}
		if !list.HasMore || list.Next == "" {
			return nil
		}
		query.Set("start_cursor", list.Next)
	}
}

// indents says by how much what stands below a block is moved to the right.
func indents(kind string) int {
	switch kind {
	case "column_list", "column", "synced_block", "table", "toggle":
		return 0
	}
	return 1
}

func (r *renderer) block(b block, depth int) {
	h := b.held
	text := h.RichText.text()
	switch b.Type {
	case "heading_1", "heading_2", "heading_3":
		if text != "" {
			r.line(0, strings.Repeat("#", int(b.Type[8]-'0'))+" "+text)
		}
	case "bulleted_list_item", "toggle":
		r.line(depth, "- "+text)
	case "numbered_list_item":
		r.line(depth, "1. "+text)
	case "to_do":
		r.line(depth, map[bool]string{true: "- [x] ", false: "- [ ] "}[h.Checked]+text)
	case "quote", "callout":
		r.line(depth, "> "+strings.ReplaceAll(text, "\n", "\n> "))
	case "code":
		r.line(depth, "```"+h.Language+"\n"+text+"\n```")
		r.line(depth, h.Caption.text())
	case "table_row":
		cells := make([]string, len(h.Cells))
		for i, c := range h.Cells {
			cells[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(c.text())
		}
		r.out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	default:
		for _, s := range []string{h.Title, text, h.Expression, h.Name, h.Caption.text(), h.URL} {
			r.line(depth, s)
		}
	}
}
