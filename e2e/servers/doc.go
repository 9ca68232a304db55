// Package servers holds the tests of the built program against real servers, which scripts/servers.sh starts.
package servers
