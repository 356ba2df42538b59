package demo

import (
	"bytes"
	"errors"
	"strconv"
)

// message is what clients send and backends answer: the same numbers, and in an answer the instance's name. As bytes:
// room, client, number and instance with spaces between.
type message struct {
	room     int
	client   int
	number   uint64
	instance string
}

var errMessage = errors.New("not a message of this demo")

func (m message) append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, int64(m.room), 10)
	dst = strconv.AppendInt(append(dst, ' '), int64(m.client), 10)
	dst = strconv.AppendUint(append(dst, ' '), m.number, 10)
	dst = append(dst, ' ')
	return append(dst, m.instance...)
}

func parseMessage(b []byte) (m message, err error) {
	fields := bytes.SplitN(b, []byte(" "), 4)
	if len(fields) != 4 {
		return m, errMessage
	}
	var e1, e2, e3 error
	m.room, e1 = strconv.Atoi(string(fields[0]))
	m.client, e2 = strconv.Atoi(string(fields[1]))
	m.number, e3 = strconv.ParseUint(string(fields[2]), 10, 64)
	m.instance = string(fields[3])
	if e1 != nil || e2 != nil || e3 != nil {
		return m, errMessage
	}
	return m, nil
}
