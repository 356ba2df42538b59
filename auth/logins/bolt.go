package logins

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// The buckets of the file. All numbers are big-endian.
//
//	meta    "version" -> 1, "lineage" -> 16 random bytes
//	logins  app (32) | id -> place (8) | seen (8) | length of type (1) | type | name
//	owners  length of id (1) | id | app (32) -> nothing
//	changes place (8) -> app (32) | id
//	peers   name of another node -> cursor in its store (24)
//
// A login has one entry in changes: a later change moves it to the end.
var (
	bucketMeta    = []byte("meta")
	bucketLogins  = []byte("logins")
	bucketOwners  = []byte("owners")
	bucketChanges = []byte("changes")
	bucketPeers   = []byte("peers")
	keyVersion    = []byte("version")
	keyLineage    = []byte("lineage")
	fileVersion   = []byte{1}
)

// sweepPiece is how many logins one transaction of a sweep looks at.
const sweepPiece = 4096

// bolt is the backend in a file.
type bolt struct {
	db *bbolt.DB
	id [16]byte
}

func openBolt(path string) (*bolt, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      time.Second,
		FreelistType: bbolt.FreelistMapType,
		OpenFile:     openPrivate,
	})
	if err != nil {
		return nil, fmt.Errorf("open the login store %q: %w", path, err)
	}
	b := &bolt{db: db}
	if err := db.Update(b.prepare); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open the login store %q: %w", path, err)
	}
	return b, nil
}

// openPrivate opens a file that only its owner may read and that is no link.
func openPrivate(name string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(name, flag|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("it must be a file that only its owner may read: chmod 600 %s", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (b *bolt) prepare(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return err
	}
	for _, name := range [][]byte{bucketLogins, bucketOwners, bucketChanges, bucketPeers} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if v := meta.Get(keyVersion); v != nil {
		if !bytes.Equal(v, fileVersion) || copy(b.id[:], meta.Get(keyLineage)) != len(b.id) {
			return errors.New("it was written by a later version; use that one, or move the file away")
		}
		return nil
	}
	_, _ = rand.Read(b.id[:]) // crypto/rand never fails: it ends the process instead
	if err := meta.Put(keyLineage, b.id[:]); err != nil {
		return err
	}
	return meta.Put(keyVersion, fileVersion)
}

func (b *bolt) lineage() [16]byte { return b.id }
func (b *bolt) close() error      { return b.db.Close() }

func (b *bolt) cursor(peer string) (cursor []byte) {
	_ = b.db.View(func(tx *bbolt.Tx) error { // fails only once it is closed
		cursor = bytes.Clone(tx.Bucket(bucketPeers).Get([]byte(peer)))
		return nil
	})
	return cursor
}

func (b *bolt) keepCursor(peer string, cursor []byte) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		peers := tx.Bucket(bucketPeers)
		if peers.Get([]byte(peer)) == nil && peers.Stats().KeyN >= maxFollowed {
			return nil
		}
		return peers.Put([]byte(peer), cursor)
	})
}

func (k *key) bytes() []byte { return append(k.app[:len(k.app):len(k.app)], k.id...) }

func ownerKey(id string, app []byte) []byte {
	return append(append([]byte{byte(len(id))}, id...), app...)
}

func encodeValue(r *record, place uint64) []byte {
	v := binary.BigEndian.AppendUint64(nil, place)
	v = binary.BigEndian.AppendUint64(v, uint64(r.seen))
	v = append(append(v, byte(len(r.kind))), r.kind...)
	return append(v, r.name...)
}

// decodeValue copies what it takes: v belongs to the file.
func decodeValue(k, v []byte) (p placed, ok bool) {
	if len(k) <= 32 || len(v) < 17 || len(v) < 17+int(v[16]) {
		return placed{}, false
	}
	p.id = string(k[copy(p.app[:], k):])
	p.place = binary.BigEndian.Uint64(v)
	p.seen = int64(binary.BigEndian.Uint64(v[8:]))
	kind := 17 + int(v[16])
	p.kind, p.name = string(v[17:kind]), string(v[kind:])
	return p, true
}

func (b *bolt) write(records []record) (changed int, err error) {
	err = b.db.Update(func(tx *bbolt.Tx) error {
		changed = 0
		for i := range records {
			ok, err := b.put(tx, &records[i])
			if err != nil {
				return fmt.Errorf("write a login: %w", err)
			}
			if ok {
				changed++
			}
		}
		return nil
	})
	return changed, err
}

func (b *bolt) put(tx *bbolt.Tx, r *record) (changed bool, err error) {
	logins, changes := tx.Bucket(bucketLogins), tx.Bucket(bucketChanges)
	k := r.bytes()
	if old, ok := decodeValue(k, logins.Get(k)); ok {
		if !worthWriting(&old.record, r) {
			return false, nil
		}
		if err := changes.Delete(binary.BigEndian.AppendUint64(nil, old.place)); err != nil {
			return false, err
		}
	}
	place, err := changes.NextSequence()
	if err != nil {
		return false, err
	}
	if err := changes.Put(binary.BigEndian.AppendUint64(nil, place), k); err != nil {
		return false, err
	}
	if err := tx.Bucket(bucketOwners).Put(ownerKey(r.id, r.app[:]), []byte{}); err != nil {
		return false, err
	}
	return true, logins.Put(k, encodeValue(r, place))
}

func (b *bolt) get(k key) (r record, ok bool) {
	_ = b.db.View(func(tx *bbolt.Tx) error { // fails only once it is closed: nothing is found
		name := k.bytes()
		var p placed
		p, ok = decodeValue(name, tx.Bucket(bucketLogins).Get(name))
		r = p.record
		return nil
	})
	return r, ok
}

func (b *bolt) owners(id string) (apps [][32]byte) {
	_ = b.db.View(func(tx *bbolt.Tx) error { // fails only once it is closed: nothing is found
		prefix := ownerKey(id, nil)
		c := tx.Bucket(bucketOwners).Cursor()
		for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(apps) < 2; k, _ = c.Next() {
			if app := k[len(prefix):]; len(app) == 32 {
				apps = append(apps, [32]byte(app))
			}
		}
		return nil
	})
	return apps
}

func (b *bolt) since(place uint64, max int) (out []record, reached uint64, err error) {
	reached = place
	err = b.db.View(func(tx *bbolt.Tx) error {
		logins := tx.Bucket(bucketLogins)
		c := tx.Bucket(bucketChanges).Cursor()
		for k, name := c.Seek(binary.BigEndian.AppendUint64(nil, place+1)); k != nil && len(out) < max; k, name = c.Next() {
			if p, ok := decodeValue(name, logins.Get(name)); ok {
				out = append(out, p.record)
			}
			reached = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	return out, reached, err
}

// sweep goes through all logins in pieces, so that no transaction holds up those
// that write for long.
func (b *bolt) sweep(ctx context.Context, before int64) (removed int, err error) {
	var from []byte
	for done := false; !done; {
		if ctx.Err() != nil {
			return removed, nil
		}
		err := b.db.Update(func(tx *bbolt.Tx) error {
			old, next := oldLogins(tx, from, before)
			from, done = next, next == nil
			for i := range old {
				if err := remove(tx, &old[i]); err != nil {
					return fmt.Errorf("remove a login: %w", err)
				}
			}
			removed += len(old)
			return nil
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// oldLogins looks at one piece and returns what was not seen since, and where to
// go on (nil: at the end).
func oldLogins(tx *bbolt.Tx, from []byte, before int64) (old []placed, next []byte) {
	c := tx.Bucket(bucketLogins).Cursor()
	k, v := c.Seek(from)
	for n := 0; k != nil; k, v = c.Next() {
		if n++; n > sweepPiece {
			return old, bytes.Clone(k)
		}
		if p, ok := decodeValue(k, v); ok && p.seen < before {
			old = append(old, p)
		}
	}
	return old, nil
}

func remove(tx *bbolt.Tx, p *placed) error {
	return errors.Join(
		tx.Bucket(bucketLogins).Delete(p.bytes()),
		tx.Bucket(bucketOwners).Delete(ownerKey(p.id, p.app[:])),
		tx.Bucket(bucketChanges).Delete(binary.BigEndian.AppendUint64(nil, p.place)),
	)
}
