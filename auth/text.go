package auth

import (
	"unicode/utf16"
	"unicode/utf8"
)

// appendPair appends "key":"value" with the value as appendText writes it.
func appendPair(dst []byte, key, value string) []byte {
	dst = append(dst, '"')
	dst = append(dst, key...)
	dst = append(dst, `":"`...)
	dst = appendText(dst, value)
	return append(dst, '"')
}

// appendText appends s as the inside of a JSON string in pure ASCII, with > ? ~
// and DEL escaped too. In ASCII text the 6-bit values 62 and 63 come from those
// four bytes only, so what is written has the same form in base64 and in
// base64url, and no reader trips over the alphabet. Invalid UTF-8 becomes U+FFFD.
func appendText(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < ' ' || c == '>' || c == '?' || c == '~' || c == 0x7f:
				dst = appendEscape(dst, uint16(c))
			default:
				dst = append(dst, c)
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			dst = appendEscape(appendEscape(dst, uint16(high)), uint16(low))
		} else {
			dst = appendEscape(dst, uint16(r))
		}
	}
	return dst
}

func appendEscape(dst []byte, u uint16) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
}

// capped returns s cut to at most 256 bytes, for logs: ids and addresses that
// others chose may be long. The log handler quotes.
func capped(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}
