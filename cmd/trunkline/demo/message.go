package demo

import (
	"bytes"
	"errors"
	"strconv"
)

// message is what clients send and backends answer: the same numbers, and in an answer the name of the instance and the
// node that holds its tunnel. As bytes: room, client, number, instance and node with spaces between.
type message struct {
	room     int
	client   int
	number   uint64
	instance string
	node     string // as bytes the address of its tunnel port
}

var errMessage = errors.New("not a message of this demo")

func (m message) append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, int64(m.room), 10)
	dst = strconv.AppendInt(append(dst, ' '), int64(m.client), 10)
	dst = strconv.AppendUint(append(dst, ' '), m.number, 10)
	dst = append(dst, ' ')
	dst = append(append(dst, m.instance...), ' ')
	return append(dst, m.node...)
}

func parseMessage(b []byte) (m message, err error) {
	fields := bytes.SplitN(b, []byte(" "), 5)
	if len(fields) != 5 {
		return m, errMessage
	}
	var e1, e2, e3 error
	m.room, e1 = strconv.Atoi(string(fields[0]))
	m.client, e2 = strconv.Atoi(string(fields[1]))
	m.number, e3 = strconv.ParseUint(string(fields[2]), 10, 64)
	m.instance, m.node = string(fields[3]), string(fields[4])
	if e1 != nil || e2 != nil || e3 != nil {
		return m, errMessage
	}
	return m, nil
}
