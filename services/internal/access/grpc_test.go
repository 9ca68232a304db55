package access_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	_ "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/access"
)

// changes are the methods that do more than read. A new method that is not named like a reader has to be entered here, so that somebody
// thinks about who may call it.
var changes = map[string]access.Scope{
	"gateway.v1.GatewayService/ReceiveWebhook":           "",
	"verifier.v1.VerifierService/Verify":                 access.Service,
	"verifier.v1.VerifierService/VerifyBatch":            access.Service,
	"verifier.v1.VerifierService/Understand":             access.Service,
	"source.v1.SourceService/WatchSources":               access.Service,
	"source.v1.SourceService/CreateSource":               access.IngestAdmin,
	"source.v1.SourceService/UpdateSource":               access.IngestAdmin,
	"source.v1.SourceService/DeleteSource":               access.IngestAdmin,
	"source.v1.SourceService/EnableSource":               access.IngestAdmin,
	"source.v1.SourceService/DisableSource":              access.IngestAdmin,
	"source.v1.SourceService/RotateSecret":               access.IngestAdmin,
	"dedupe.v1.DedupeService/ForgetKey":                  access.Operate,
	"sequencer.v1.SequencerService/SkipGap":              access.Operate,
	"sequencer.v1.SequencerService/WaitForGap":           access.Operate,
	"reconciler.v1.ReconcilerService/PollSource":         access.Operate,
	"reconciler.v1.ReconcilerService/SweepSource":        access.Operate,
	"reconciler.v1.ReconcilerService/StartBackfill":      access.Operate,
	"reconciler.v1.ReconcilerService/ReplayDeadLetters":  access.Operate,
	"reconciler.v1.ReconcilerService/DiscardDeadLetters": access.Operate,
	"reconciler.v1.ReconcilerService/WriteOffDebts":      access.Operate,
}

func TestEveryMethodNeedsTheScopeThatItShould(t *testing.T) {
	seen := map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "hookmesh.") {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				short := strings.TrimPrefix(method, "hookmesh.")
				want, isChange := changes[short]
				if !isChange {
					want = access.Read
				}
				seen[short] = true
				if got := access.NeedOf("/" + method); got != want {
					t.Errorf("%s needs %q, want %q", short, got, want)
				}
			}
		}
		return true
	})
	for method := range changes {
		if !seen[method] {
			t.Errorf("there is no method %s", method)
		}
	}
}
