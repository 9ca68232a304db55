package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

const (
	cursorName = "cursor"
	slotSize   = 24
	// slotGap keeps the two slots in different sectors, so that one write cannot tear both.
	slotGap = 4096
)

// cursorFile keeps how far the reader came, in two slots that are written in turn: if a crash tears one, the other is good.
type cursorFile struct {
	mu    sync.Mutex // the reader writes it while Close may flush it
	file  File       // nil after close
	turn  uint64
	dirty bool
}

// open opens or creates the cursor and returns the newest good position.
func (c *cursorFile) open(d Disk) (Pos, error) {
	f, _, err := d.Open(cursorName)
	if errors.Is(err, os.ErrNotExist) {
		if f, err = d.Create(cursorName); err == nil {
			err = d.SyncDir()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("open the cursor: %w", err)
	}
	c.file = f
	var newest Pos
	for i := range int64(2) {
		var slot [slotSize]byte
		if _, err := f.ReadAt(slot[:], i*slotGap); err != nil {
			if errors.Is(err, io.EOF) {
				continue
			}
			return 0, fmt.Errorf("read the cursor: %w", err)
		}
		turn, pos, ok := parseSlot(slot[:])
		if ok && turn >= c.turn {
			c.turn, newest = turn, pos
		}
	}
	return newest, nil
}

// parseSlot reads turn, position and their sum.
func parseSlot(slot []byte) (turn uint64, pos Pos, ok bool) {
	if crc32.Checksum(slot[:16], castagnoli) != binary.LittleEndian.Uint32(slot[16:]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(slot), Pos(binary.LittleEndian.Uint64(slot[8:])), true
}

// write gives the position to the operating system: it survives the process, but not yet a power cut.
func (c *cursorFile) write(pos Pos) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return ErrClosed
	}
	c.turn++
	var slot [slotSize]byte
	binary.LittleEndian.PutUint64(slot[:], c.turn)
	binary.LittleEndian.PutUint64(slot[8:], uint64(pos))
	binary.LittleEndian.PutUint32(slot[16:], crc32.Checksum(slot[:16], castagnoli))
	if _, err := c.file.WriteAt(slot[:], int64(c.turn%2)*slotGap); err != nil {
		return fmt.Errorf("write the spool's cursor: %w", err)
	}
	c.dirty = true
	return nil
}

// unsynced reports whether a power cut would undo something.
func (c *cursorFile) unsynced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirty
}

// sync flushes what was written.
func (c *cursorFile) sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty || c.file == nil {
		return nil
	}
	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("flush the spool's cursor: %w", err)
	}
	c.dirty = false
	return nil
}

func (c *cursorFile) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}
