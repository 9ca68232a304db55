package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Every field of the dashboards is one that Grafana's published schema knows, of the type that it has there, and what must be there is.
func TestDashboardsFollowGrafanasSchema(t *testing.T) {
	known := cog.NewRuntime()
	known.RegisterPanelcfgVariant(timeseries.VariantConfig())
	known.RegisterPanelcfgVariant(heatmap.VariantConfig())
	known.RegisterDataqueryVariant(prometheus.VariantConfig())
	for _, file := range dashboards(t) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard.Dashboard
		var errs cog.BuildErrors // an empty one is no error, but is none that equals nil either
		if err := d.UnmarshalJSONStrict(raw); err != nil && !(errors.As(err, &errs) && len(errs) == 0) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}
