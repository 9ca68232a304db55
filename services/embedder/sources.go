package embedder

import "github.com/hookmesh/hookmesh/services/connector"

// sourceSettings are what differs between sources. They do not change.
type sourceSettings struct {
	fetchers map[string]connector.Fetcher
	retries  map[string]Policy
}

// SetSources replaces what is known of the sources. Work that began before goes on as it began.
func (s *Service) SetSources(fetchers map[string]connector.Fetcher, retries map[string]Policy) {
	s.sources.Store(&sourceSettings{fetchers, retries})
	s.wakeUp()
}

// fetcher gets a source's documents; nil: they come with its events.
func (s *Service) fetcher(source string) connector.Fetcher { return s.sources.Load().fetchers[source] }
