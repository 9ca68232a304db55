package topology

import (
	"io"
	"net"
	"sync"
)

// Link is a TCP connection between processes that can be cut: a proxy in front of an address.
type Link struct {
	target string
	listen net.Listener

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// NewLink listens on a free port and passes on to target.
func NewLink(target string) (*Link, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{target: target, listen: listen, conns: map[net.Conn]bool{}}
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is where to connect.
func (l *Link) Addr() string { return l.listen.Addr().String() }

// Cut breaks all connections and refuses new ones, until Mend.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// Mend lets connections through again; none needs no mending.
func (l *Link) Mend() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Close ends the proxy; none needs no end.
func (l *Link) Close() {
	if l == nil {
		return
	}
	_ = l.listen.Close()
	l.Cut()
	l.wg.Wait()
}

func (l *Link) accept() {
	for {
		conn, err := l.listen.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(conn) })
	}
}

func (l *Link) serve(near net.Conn) {
	if !l.keep(near) {
		return
	}
	defer l.drop(near)
	far, err := net.Dial("tcp", l.target)
	if err != nil || !l.keep(far) {
		return
	}
	defer l.drop(far)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, near)
		_ = far.Close()
	}()
	_, _ = io.Copy(near, far)
	_ = near.Close()
	<-done
}

// keep notes a connection so that Cut finds it; false: the link is cut.
func (l *Link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = conn.Close()
		return false
	}
	l.conns[conn] = true
	return true
}

func (l *Link) drop(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	_ = conn.Close()
}
