package compat

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// What the suite takes for granted of the published SDK, seen without a coordinator: it finds one by a bare host at port
// 7147, says who it is in one object without an end mark, and, when it reconnects by name while its program talks, sends
// frames first. If this fails, TestServerSDKFramesBeforeTheRegistration proves nothing.
func TestThePublishedSDKTalksBeforeItRegisters(t *testing.T) {
	t.Parallel()
	at := host()
	ln, err := net.Listen("tcp", at+":7147")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a := app{secret: "s3cr3t"}
	backend := startNode(t, "store-1", "backend.mjs", "COORDINATOR_HOST=coordinator.invalid", "APP_SECRET="+a.secret, "STORE_ID=store-1",
		"CHATTER_MS=1", "LOOKUP=coordinator.invalid="+at, "LOOKUP_MS=40")

	const want = `{"appSecret":"s3cr3t","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"},"nickname":{}}}`
	conn := accept(t, ln)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("the SDK registered with %q (%v), want %q", got, err, want)
	}
	conn.Write([]byte("\x00\x00\x00\x0f\x01\x01\x23\x45\x67\x89\xab\xcd\xef\x05alice"))
	backend.await(t, "subscribeUser", of("subscribe", "mf9g063v08f", "alice"))
	conn.Close()

	conn = accept(t, ln)
	defer conn.Close()
	chunk, err := bufio.NewReader(conn).ReadString('}')
	if err != nil || chunk[0] != 0 || !strings.Contains(chunk, "chatter {") {
		t.Fatalf("the SDK reconnected with %q (%v), want frames first", chunk, err)
	}
}

func accept(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}
