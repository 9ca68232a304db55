// Package topology runs the mesh as it runs in production, but on one machine and without containers: every service a process of its
// own, real Apache Kafka and PostgreSQL, a proxy in front. Tests drive it, and `make mesh` lets a person look at it.
package topology

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a program that can be started, killed, frozen and started again. Its output goes to a file. It dies with the program that
// started it (on Linux).
type Process struct {
	// Name is unique within a topology; its log is NAME.log.
	Name string
	// Args are the program and its arguments.
	Args []string
	// Env is added to the environment.
	Env []string
	// Dir holds the log.
	Dir string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts it. It must not run.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.Name, err)
	}
	cmd := exec.CommandContext(context.Background(), p.Args[0], p.Args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.SysProcAttr = ties()
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the child would be killed when the thread that started it ends
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it ends by a signal
		}
		_ = log.Close()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done = cmd, done
	return nil
}

// Log is where its output goes.
func (p *Process) Log() string { return filepath.Join(p.Dir, p.Name+".log") }

// Tail is the end of its log.
func (p *Process) Tail() string {
	raw, err := os.ReadFile(p.Log())
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-3000):])
}

// PID is its process id; 0: it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running says whether it runs.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal: SIGSTOP and SIGCONT freeze and thaw it.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return p.cmd.Process.Signal(sig)
}

// End sends a signal that ends it and waits, for at most patience, after which it is killed. It says how long it took.
func (p *Process) End(sig syscall.Signal, patience time.Duration) time.Duration {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return 0
	}
	began := time.Now()
	if sig == syscall.SIGKILL {
		patience = 0
	} else {
		_ = cmd.Process.Signal(sig)
	}
	select {
	case <-done:
	case <-time.After(patience):
		killGroup(cmd.Process, done)
		<-done
	}
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
	return time.Since(began)
}

// killGroup kills a process and what it started. One that ended already is left alone: its number may be another's by now.
func killGroup(p *os.Process, done <-chan struct{}) {
	select {
	case <-done:
	default:
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
}

// FreePort is an address on 127.0.0.1 that was free a moment ago. It lies below the ports that the kernel gives to outgoing connections, one
// of which could take it before it is used.
func FreePort() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

// awaitPort waits until somebody listens.
func awaitPort(ctx context.Context, p *Process, address string) error {
	for {
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w\n%s", p.Name, address, err, p.Tail())
		case <-time.After(100 * time.Millisecond):
		}
		if !p.Running() {
			return fmt.Errorf("%s ended by itself:\n%s", p.Name, p.Tail())
		}
	}
}
