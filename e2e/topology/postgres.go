package topology

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a PostgreSQL server with pgvector. It dies with the program that started it.
type Postgres struct {
	*Process
	// Addr is where it listens.
	Addr string
	dir  string
	// made counts the databases that were made beside the first.
	made int
}

// StartPostgres starts a server whose log goes to dir (see scripts/postgres.sh). Its data lies elsewhere: root's temporary folders are out of
// reach for the user that PostgreSQL insists on.
func StartPostgres(ctx context.Context, dir string) (*Postgres, error) {
	return startPostgres(ctx, dir, "postgres", "--prepare")
}

// startPostgres lets the script fill the server's folder, and starts it.
func startPostgres(ctx context.Context, dir, name, fill string, args ...string) (_ *Postgres, err error) {
	data, err := os.MkdirTemp("", "hookmesh-postgres-")
	if err != nil {
		return nil, err
	}
	pg := &Postgres{dir: data}
	defer func() {
		if err != nil {
			pg.Kill()
		}
	}()
	script := filepath.Join(Root(), "scripts/postgres.sh")
	if out, err := exec.CommandContext(ctx, script, append([]string{fill, data}, args...)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("prepare PostgreSQL: %w\n%s", err, out)
	}
	if pg.Addr, err = FreePort(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(pg.Addr)
	if err != nil {
		return nil, err
	}
	pg.Process = &Process{Name: name, Dir: dir, Args: []string{script, "--node", data, port}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return pg, errors.Join(pg.Start(), pg.Await(ctx))
}

// DSN is how to reach the newest database at an address of the server: its own, or one that leads there.
func (pg *Postgres) DSN(addr string) string {
	name := "postgres"
	if pg.made > 0 {
		name = fmt.Sprint("mesh", pg.made)
	}
	return "postgres://hookmesh@" + addr + "/" + name + "?sslmode=disable"
}

// NewDatabase makes a database that holds nothing; DSN leads to it from now on.
func (pg *Postgres) NewDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, pg.DSN(pg.Addr))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE mesh%d TEMPLATE template0", pg.made+1))
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create a database: %w", err)
	}
	pg.made++
	return nil
}

// query asks for one value as text.
func (pg *Postgres) query(ctx context.Context, sql string) (value string, err error) {
	conn, err := pgx.Connect(ctx, pg.DSN(pg.Addr))
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, sql).Scan(&value)
	return value, errors.Join(err, conn.Close(ctx))
}

func (pg *Postgres) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, pg.DSN(pg.Addr))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Await waits until the server answers a query. A server that was killed refuses to start until its last child noticed; it is started again.
func (pg *Postgres) Await(ctx context.Context) error {
	for {
		err := pg.ask(ctx)
		if err == nil {
			return nil
		}
		if !pg.Running() {
			if !strings.Contains(pg.Tail(), "shared memory block") {
				return fmt.Errorf("postgres ended by itself:\n%s", pg.Tail())
			}
			pg.End(syscall.SIGKILL, 0)
			if err := pg.Start(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, pg.Tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (pg *Postgres) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, pg.DSN(pg.Addr))
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

// SignalAll sends a signal to the server and to its children, one per connection and some more.
func (pg *Postgres) SignalAll(sig syscall.Signal) error {
	err := pg.Signal(sig)
	for _, child := range pg.children() {
		_ = syscall.Kill(child, sig) // one may have ended meanwhile
	}
	return err
}

// KillChild kills one of the server's children, whereupon the server ends all others and recovers by itself.
func (pg *Postgres) KillChild(rng *rand.Rand) error {
	children := pg.children()
	if len(children) == 0 {
		return errors.New("PostgreSQL has no children, or /proc does not tell")
	}
	return syscall.Kill(children[rng.IntN(len(children))], syscall.SIGKILL)
}

// children are the processes whose parent is the server.
func (pg *Postgres) children() (found []int) {
	parent := strconv.Itoa(pg.PID())
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		_, rest, ok := strings.Cut(string(raw), ") ")
		if fields := strings.Fields(rest); err != nil || !ok || len(fields) < 2 || fields[1] != parent {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// Kill ends the server at once and removes its data.
func (pg *Postgres) Kill() {
	if pg.Process != nil {
		_ = pg.SignalAll(syscall.SIGCONT) // a frozen child would not notice that its parent is gone
		pg.End(syscall.SIGKILL, 0)
	}
	_ = os.RemoveAll(pg.dir)
}
