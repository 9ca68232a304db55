package rpc_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/rpc"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// failing fails every call.
type failing struct {
	dedupev1.UnimplementedDedupeServiceServer
	err error
}

func (f failing) GetEvent(context.Context, *dedupev1.GetEventRequest) (*dedupev1.GetEventResponse, error) {
	return nil, f.err
}

// busy is the error of a transaction that waited in vain for another one's.
func busy(t *testing.T) error {
	path := filepath.Join(t.TempDir(), "busy.db")
	holder, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close() }()
	holder.SetMaxOpenConns(1)
	if _, err := holder.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	_, err = other.ExecContext(t.Context(), "CREATE TABLE t (n)")
	if err == nil {
		t.Fatal("the database was not locked")
	}
	return err
}

func TestACallerMayTryAgainWhenTheStoreIsAwayForTheMoment(t *testing.T) {
	code := func(c string) error { return &pgconn.PgError{Code: c, Message: "s3cret"} }
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"serialization failure":            {code("40001"), codes.Unavailable},
		"deadlock":                         {code("40P01"), codes.Unavailable},
		"lock not to be had":               {code("55P03"), codes.Unavailable},
		"too many connections":             {code("53300"), codes.Unavailable},
		"server shuts down":                {code("57P01"), codes.Unavailable},
		"server starts":                    {code("57P03"), codes.Unavailable},
		"connection refused":               {refused, codes.Unavailable},
		"connection lost in the middle":    {io.ErrUnexpectedEOF, codes.Unavailable},
		"the driver's own timeout":         {&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, codes.Unavailable},
		"outcome of the commit is unknown": {fmt.Errorf("commit: %w", stage.ErrUncertain), codes.Unavailable},
		"SQLite is busy":                   {busy(t), codes.Unavailable},
		"violated constraint":              {code("23505"), codes.Internal},
		"mistake in a statement":           {code("42601"), codes.Internal},
		"no such row":                      {pgx.ErrNoRows, codes.Internal},
		"anything else":                    {errors.New("s3cret"), codes.Internal},
		"a status of the service":          {status.Error(codes.NotFound, "no such event"), codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := rpc.NewServer(nil, nil, telemetry.Nop(), postgres.Transient, sqlite.Busy)
			if err != nil {
				t.Fatal(err)
			}
			dedupev1.RegisterDedupeServiceServer(server, failing{err: fmt.Errorf("look up: %w", c.err)})
			_, err = dedupev1.NewDedupeServiceClient(server.Local()).GetEvent(t.Context(), &dedupev1.GetEventRequest{Id: "e"})
			if got := status.Convert(err); got.Code() != c.want || strings.Contains(got.Message(), "s3cret") || strings.Contains(got.Message(), "refused") {
				t.Errorf("%v became %v, want %v", c.err, err, c.want)
			}
			// Whoever is told to try again believes that nothing was done.
			if got := strings.Contains(status.Convert(err).Message(), "look before you try again"); got != errors.Is(c.err, stage.ErrUncertain) {
				t.Errorf("%v became %v", c.err, err)
			}
		})
	}
}
