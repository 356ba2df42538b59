package client

import (
	"bytes"
	"net/http"
)

// Limits of a request head.
const (
	maxHead    = 16 << 10 // bytes
	maxHeaders = 100      // header lines
)

// head is what has to be known of a request before it is decided who answers it. Its slices alias the bytes parsed.
type head struct {
	method  []byte
	path    []byte
	query   []byte // after the first '?'
	upgrade bool   // "Upgrade: websocket"
	body    bool   // a body is announced
	origin  bool   // there is an Origin, so it is a browser
}

// headEnd finds the end of the head in b: the index after its empty line, or 0 when more bytes are needed. Everything
// before from has been looked at already.
func headEnd(b []byte, from int) int {
	for i := max(0, from-3); ; {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return 0
		}
		i += k + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// parse reads a whole head. The status is 200, or the one to refuse the request with.
func (h *head) parse(b []byte) (status int) {
	line, b := nextLine(b)
	if status := h.parseRequestLine(line); status != http.StatusOK {
		return status
	}
	for lines := 0; ; lines++ {
		line, b = nextLine(b)
		if len(line) == 0 {
			return http.StatusOK
		}
		if lines == maxHeaders {
			return http.StatusRequestHeaderFieldsTooLarge
		}
		key, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(key) || bytes.ContainsAny(value, "\r\x00") {
			return http.StatusBadRequest
		}
		h.header(key, bytes.TrimSpace(value))
	}
}

func (h *head) parseRequestLine(line []byte) (status int) {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || !isToken(method) || len(target) == 0 {
		return http.StatusBadRequest
	}
	if !bytes.Equal(version, []byte("HTTP/1.1")) && !bytes.Equal(version, []byte("HTTP/1.0")) {
		if bytes.HasPrefix(version, []byte("HTTP/")) {
			return http.StatusHTTPVersionNotSupported
		}
		return http.StatusBadRequest
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return http.StatusBadRequest
		}
	}
	h.method = method
	h.path, h.query, _ = bytes.Cut(target, []byte("?"))
	if len(h.path) == 0 {
		return http.StatusBadRequest // a bare query names nothing
	}
	return http.StatusOK
}

func (h *head) header(key, value []byte) {
	switch {
	case bytes.EqualFold(key, []byte("Upgrade")):
		h.upgrade = h.upgrade || hasToken(value, "websocket")
	case bytes.EqualFold(key, []byte("Content-Length")):
		h.body = h.body || !bytes.Equal(value, []byte("0"))
	case bytes.EqualFold(key, []byte("Transfer-Encoding")):
		h.body = true
	case bytes.EqualFold(key, []byte("Origin")):
		h.origin = true
	}
}

// nextLine cuts the first line off b, without its end.
func nextLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// hasToken looks for a word in a comma-separated list, in either case.
func hasToken(list []byte, word string) bool {
	for len(list) > 0 {
		var item []byte
		item, list, _ = bytes.Cut(list, []byte(","))
		if bytes.EqualFold(bytes.TrimSpace(item), []byte(word)) {
			return true
		}
	}
	return false
}

// isToken says whether b may be a method or a header's name (RFC 9110 §5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}
