// Package registry is the one table of all connectors.
package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/confluence"
	"github.com/hookmesh/hookmesh/services/connector/drive"
	"github.com/hookmesh/hookmesh/services/connector/folder"
	"github.com/hookmesh/hookmesh/services/connector/generic"
	"github.com/hookmesh/hookmesh/services/connector/ghost"
	"github.com/hookmesh/hookmesh/services/connector/gitea"
	"github.com/hookmesh/hookmesh/services/connector/github"
	"github.com/hookmesh/hookmesh/services/connector/gitlab"
	"github.com/hookmesh/hookmesh/services/connector/intercom"
	"github.com/hookmesh/hookmesh/services/connector/jira"
	"github.com/hookmesh/hookmesh/services/connector/notion"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/connector/sharepoint"
	"github.com/hookmesh/hookmesh/services/connector/slack"
	"github.com/hookmesh/hookmesh/services/connector/website"
	"github.com/hookmesh/hookmesh/services/connector/zendesk"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// makers by connector.type. The limiters are shared by all connectors of a process.
var makers = map[string]func(config.Source, *rest.Limiters) (connector.Connector, error){
	"":     generic.New,
	"http": generic.New,
	"folder": func(s config.Source, _ *rest.Limiters) (connector.Connector, error) {
		return folder.New(s.Connector)
	},
	"confluence":   of(confluence.New),
	"github":       of(github.New),
	"gitea":        of(gitea.New),
	"gitlab":       of(gitlab.New),
	"google-drive": of(drive.New),
	"ghost":        of(ghost.New),
	"intercom":     of(intercom.New),
	"jira":         of(jira.New),
	"notion":       of(notion.New),
	"sharepoint":   of(sharepoint.New),
	"slack":        of(slack.New),
	"website":      of(website.New),
	"zendesk":      of(zendesk.New),
}

// of adapts a maker that needs no more than the connector's own settings.
func of(maker func(config.Connector, *rest.Limiters) (connector.Connector, error)) func(config.Source, *rest.Limiters) (connector.Connector, error) {
	return func(s config.Source, limits *rest.Limiters) (connector.Connector, error) {
		return maker(s.Connector, limits)
	}
}

// New returns a source's connector; without any setting about it, one that can do nothing.
func New(src config.Source, limits *rest.Limiters) (connector.Connector, error) {
	maker, ok := makers[src.Connector.Type]
	if !ok {
		return connector.Connector{}, fmt.Errorf("source %s: connector.type: there is no %q; known are %s", src.Name, src.Connector.Type, strings.Join(Types(), ", "))
	}
	c, err := maker(src, limits)
	if err != nil {
		return connector.Connector{}, fmt.Errorf("source %s: connector: %w", src.Name, err)
	}
	return c, nil
}

// Types lists the values of connector.type.
func Types() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(makers)), func(t string) bool { return t == "" })
}
