package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
)

// checkFile checks how the pages of a bbolt file refer to each other. bbolt itself trusts them: it follows a circle without end, and gives
// away pages that are in use if the list of free ones is wrong.
func checkFile(dir fs.FS, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkPages(f.(io.ReaderAt), info.Size())
}

// The format of bbolt's pages, which have the byte order of the machine (internal/common of go.etcd.io/bbolt).
const (
	pageHeader    = 16 // id, flags, count, overflow
	metaLength    = 64 // magic, version, page size, flags, root and its sequence, free list, end, transaction, checksum
	branchElement = 16 // position, length of key, page
	leafElement   = 16 // flags, position, lengths of key and value
	bucketHeader  = 16 // root page, sequence

	branchPage, leafPage, freePage = 1, 2, 16
	noFreeList                     = 1<<64 - 1
	bucketFlag                     = 1
	magic                          = 0xED0CDAED
)

var native = binary.NativeEndian

// pages checks the pages of a file.
type pages struct {
	in   io.ReaderAt
	size uint64 // of a page
	end  uint64 // pages from here on are not in use
	seen []byte // for each page: 1 if something refers to it
}

func damage(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamaged}, args...)...)
}

// checkPages checks the pages of a file of that length.
func checkPages(in io.ReaderAt, length int64) error {
	meta, pageSize, err := lastMeta(in)
	if err != nil {
		return err
	}
	p := pages{in: in, size: pageSize, end: native.Uint64(meta[40:])}
	if p.end < 2 || p.end > uint64(length)/pageSize {
		return damage("it ends before its last page")
	}
	p.seen = make([]byte, p.end)
	p.seen[0], p.seen[1] = 1, 1
	if _, err := p.tree(native.Uint64(meta[16:]), 0); err != nil {
		return err
	}
	if free := native.Uint64(meta[32:]); free != noFreeList {
		return p.free(free)
	}
	return nil
}

// lastMeta returns the meta page of the last transaction, and the size of pages.
func lastMeta(in io.ReaderAt) (last []byte, pageSize uint64, err error) {
	var failed error
	for offset := uint64(0); offset <= 1<<16; offset = max(2*offset, 512) { // the first meta page may be the damaged one
		m := make([]byte, metaLength)
		if _, err := in.ReadAt(m, int64(offset+pageHeader)); err != nil {
			if !errors.Is(err, io.EOF) {
				failed = err
			}
			continue
		}
		sum := fnv.New64a()
		sum.Write(m[:56])
		if native.Uint32(m) != magic || native.Uint64(m[56:]) != sum.Sum64() {
			continue
		}
		size := uint64(native.Uint32(m[8:]))
		if offset != 0 && offset != size || size < 512 || size > 1<<16 {
			continue
		}
		if last == nil || native.Uint64(m[48:]) > native.Uint64(last[48:]) {
			last, pageSize = m, size
		}
	}
	if last == nil && failed != nil { // nobody knows what it has
		return nil, 0, failed
	}
	if last == nil {
		return nil, 0, damage("it has no head")
	}
	return last, pageSize, nil
}

// page reads a page that something refers to, and marks it.
func (p *pages) page(id uint64) (b []byte, kind, count uint16, err error) {
	if id < 2 || id >= p.end {
		return nil, 0, 0, damage("there is no page %d", id)
	}
	var header [pageHeader]byte
	if _, err := p.in.ReadAt(header[:], int64(id*p.size)); err != nil {
		return nil, 0, 0, err
	}
	kind, count = native.Uint16(header[8:]), native.Uint16(header[10:])
	n := uint64(native.Uint32(header[12:])) + 1
	if native.Uint64(header[:]) != id || n > p.end-id {
		return nil, 0, 0, damage("page %d is none", id)
	}
	for i := id; i < id+n; i++ {
		if p.seen[i] != 0 {
			return nil, 0, 0, damage("page %d is used twice", i)
		}
		p.seen[i] = 1
	}
	b = make([]byte, n*p.size)
	_, err = p.in.ReadAt(b, int64(id*p.size))
	return b, kind, count, err
}

// maxDepth is how many branch pages and buckets can be inside each other. A page has at least two, so that is more than any file has.
const maxDepth = 64

// tree checks a page, and those below it. It returns the first key.
func (p *pages) tree(id uint64, depth int) (first []byte, err error) {
	if depth > maxDepth {
		return nil, damage("page %d is too deep", id)
	}
	b, kind, count, err := p.page(id)
	if err != nil {
		return nil, err
	}
	switch kind {
	case branchPage:
		return p.branch(b, count, depth)
	case leafPage:
		return p.leaf(b, count, depth)
	}
	return nil, damage("page %d is of kind %d", id, kind)
}

func (p *pages) branch(b []byte, count uint16, depth int) (first []byte, err error) {
	if count == 0 || pageHeader+int(count)*branchElement > len(b) {
		return nil, damage("a branch has %d pages", count)
	}
	var last []byte
	for i := range int(count) {
		at := pageHeader + i*branchElement
		key, err := slice(b, at, native.Uint32(b[at:]), 0, native.Uint32(b[at+4:]))
		if err != nil {
			return nil, err
		}
		if string(key) <= string(last) { // none is empty
			return nil, damage("keys are not in order")
		}
		last = key
		begins, err := p.tree(native.Uint64(b[at+8:]), depth+1)
		if err != nil {
			return nil, err
		}
		if string(begins) != string(key) { // bbolt would not find the page's place here when it writes it
			return nil, damage("page %d begins with another key", native.Uint64(b[at+8:]))
		}
		if i == 0 {
			first = key
		}
	}
	return first, nil
}

func (p *pages) leaf(b []byte, count uint16, depth int) (first []byte, err error) {
	if pageHeader+int(count)*leafElement > len(b) {
		return nil, damage("a leaf has %d values", count)
	}
	var last []byte
	for i := range int(count) {
		at := pageHeader + i*leafElement
		flags, position, keyLength, valueLength := native.Uint32(b[at:]), native.Uint32(b[at+4:]), native.Uint32(b[at+8:]), native.Uint32(b[at+12:])
		key, err := slice(b, at, position, 0, keyLength)
		if err != nil {
			return nil, err
		}
		value, err := slice(b, at, position, keyLength, valueLength)
		if err != nil {
			return nil, err
		}
		if string(key) <= string(last) { // none is empty
			return nil, damage("keys are not in order")
		}
		if last = key; i == 0 {
			first = key
		}
		switch {
		case flags == 0:
		case flags != bucketFlag || len(value) < bucketHeader:
			return nil, damage("a value has the flags %x", flags)
		case native.Uint64(value) != 0:
			_, err = p.tree(native.Uint64(value), depth+1)
		case len(value) < bucketHeader+pageHeader || native.Uint16(value[bucketHeader+8:]) != leafPage || depth > maxDepth:
			return nil, damage("a bucket has no page")
		case native.Uint64(value[bucketHeader:]) != 0 || native.Uint32(value[bucketHeader+12:]) != 0: // bbolt would free the one that it says it is
			return nil, damage("the page in a bucket says that it is page %d", native.Uint64(value[bucketHeader:]))
		default: // its page is in the value
			_, err = p.leaf(value[bucketHeader:], native.Uint16(value[bucketHeader+10:]), depth+1)
		}
		if err != nil {
			return nil, err
		}
	}
	return first, nil
}

// slice returns length bytes of a page that begin offset bytes after the position, which counts from the element at at.
func slice(b []byte, at int, position, offset, length uint32) ([]byte, error) {
	begin := uint64(at) + uint64(position) + uint64(offset)
	end := begin + uint64(length)
	if end > uint64(len(b)) {
		return nil, damage("a value ends beyond its page")
	}
	return b[begin:end], nil
}

// free checks the list of free pages.
func (p *pages) free(id uint64) error {
	b, kind, short, err := p.page(id)
	if err != nil {
		return err
	}
	b = b[pageHeader:]
	count := uint64(short)
	if short == 0xffff { // there are more: the first number is how many
		count, b = native.Uint64(b), b[8:]
	}
	if kind != freePage || count > uint64(len(b))/8 {
		return damage("the list of free pages is none")
	}
	for i := range count {
		id := native.Uint64(b[8*i:])
		if id >= p.end || p.seen[id] != 0 {
			return damage("page %d is free and in use", id)
		}
		p.seen[id] = 1
	}
	return nil
}
