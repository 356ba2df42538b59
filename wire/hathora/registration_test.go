package hathora

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// goldenRegistration is what server-sdk 0.5.1 writes, all 85 bytes of it.
const goldenRegistration = `{"appSecret":"s3cr3t","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"}}}`

func TestRegistrationsOfEverySender(t *testing.T) {
	auth := json.RawMessage(`{"anonymous":{"separator":"-"}}`)
	for name, c := range map[string]struct {
		text string
		want Registration
	}{
		"builder 2021-08":    {`{"appSecret":"s3cr3t","authInfo":{"anonymous":{"separator":"-"}}}`, Registration{AppSecret: "s3cr3t", AuthInfo: auth}},
		"builder 2022-05":    {`{"appSecret":"s3cr3t","storeRegion":"unknown","authInfo":{"anonymous":{"separator":"-"}}}`, Registration{AppSecret: "s3cr3t", StoreRegion: "unknown", AuthInfo: auth}},
		"server-sdk 0.0.3":   {`{"appSecret":"s3cr3t","storeRegion":"0.123","authInfo":{"anonymous":{"separator":"-"}}}`, Registration{AppSecret: "s3cr3t", StoreRegion: "0.123", AuthInfo: auth}},
		"server-sdk 0.4.1":   {`{"appId":"abc","appSecret":"s3cr3t","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"}}}`, Registration{AppID: "abc", AppSecret: "s3cr3t", StoreID: "store-1", AuthInfo: auth}},
		"server-sdk 0.5.1":   {goldenRegistration, Registration{AppSecret: "s3cr3t", StoreID: "store-1", AuthInfo: auth}},
		"without authInfo":   {`{"appSecret":"s3cr3t","storeId":"store-1"}`, Registration{AppSecret: "s3cr3t", StoreID: "store-1"}},
		"braces in a string": {`{"appSecret":"}{\"\\","storeId":"{"}`, Registration{AppSecret: `}{"\`, StoreID: "{"}},
		"markup in a string": {`{"appSecret":"<&>"}`, Registration{AppSecret: "<&>"}},
	} {
		n, err := ScanRegistration([]byte(c.text + "\x00\x00\x00\x01\x02{}"))
		if err != nil || n != len(c.text) {
			t.Errorf("%s: ends at %d of %d, %v", name, n, len(c.text), err)
			continue
		}
		got, err := ParseRegistration([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if b, err := got.Append([]byte("x")); err != nil || string(b) != "x"+c.text {
			t.Errorf("%s: written as %s, %v", name, b, err)
		}
	}
	if len(goldenRegistration) != 85 {
		t.Errorf("the golden registration has %d bytes", len(goldenRegistration))
	}
}

func TestRegistrationsWithOtherKeys(t *testing.T) {
	for _, text := range []string{
		`{"appSecret":"s","storeId":null,"authInfo":null,"sdk":{"version":[1,2,{"x":"}"}]}}`,
		"{ \"sdk\" : 1.5e3,\n\t\"appSecret\" : \"s\" }",
	} {
		n, err := ScanRegistration([]byte(text))
		if err != nil || n != len(text) {
			t.Errorf("%s: ends at %d, %v", text, n, err)
		}
		if got, err := ParseRegistration([]byte(text)); err != nil || !reflect.DeepEqual(got, Registration{AppSecret: "s"}) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestScannerTakesPieces(t *testing.T) {
	text := []byte(`{"appSecret":"a\\\"}b","authInfo":{"nickname":{}}}` + "\x00\x00\x00\x01\x02")
	var s RegistrationScanner
	for i := range len(text) {
		n, err := s.Scan(text[:i])
		if err != nil || n != 0 && n != len(text)-5 || n == 0 && i >= len(text)-5 {
			t.Fatalf("with %d bytes: %d, %v", i, n, err)
		}
		if n != 0 {
			return
		}
	}
	t.Error("the end was not found")
}

func TestScannerRefuses(t *testing.T) {
	for in, want := range map[string]error{
		"":               nil,
		"{":              nil,
		"s3cr3t":         ErrBareText,
		"[1]":            ErrBareText,
		"TRK1":           ErrBareText,
		"\x16\x03\x01":   ErrNotRegistration,
		"\x00\x00\x00":   ErrNotRegistration,
		" {}":            ErrNotRegistration,
		"\xff":           ErrNotRegistration,
		`{"a":"` + "x":   nil,
		`{"a":"\"}`:      nil,
		`{"a":{"b":"}"}`: nil,
		"{" + strings.Repeat(" ", MaxRegistration-2):         nil,
		"{" + strings.Repeat(" ", MaxRegistration-1):         ErrRegistrationTooBig,
		"{" + strings.Repeat("{", 1<<20):                     ErrRegistrationTooBig,
		`{"` + strings.Repeat("}", MaxRegistration) + `":1}`: ErrRegistrationTooBig,
	} {
		if n, err := ScanRegistration([]byte(in)); !errors.Is(err, want) || n != 0 {
			t.Errorf("%.20q: %d, %v; want %v", in, n, err, want)
		}
	}
	longest := "{" + strings.Repeat(" ", MaxRegistration-2) + "}"
	if n, err := ScanRegistration([]byte(longest)); n != MaxRegistration || err != nil {
		t.Errorf("the longest registration: %d, %v", n, err)
	}
}

func TestRegistrationsRefusedWithoutTheSecretInTheError(t *testing.T) {
	const secret = "canary-secret"
	for name, text := range map[string]string{
		"no secret":       `{"storeId":"canary-secret"}`,
		"empty secret":    `{"appSecret":"","storeId":"canary-secret"}`,
		"secret a number": `{"appSecret":5,"storeId":"canary-secret"}`,
		"secret an array": `{"appSecret":["canary-secret"]}`,
		"long secret":     `{"appSecret":"` + strings.Repeat(secret, 100) + `"}`,
		"long store id":   `{"appSecret":"canary-secret","storeId":"` + strings.Repeat("s", 257) + `"}`,
		"long region":     `{"appSecret":"canary-secret","storeRegion":"` + strings.Repeat("s", 65) + `"}`,
		"long app id":     `{"appSecret":"canary-secret","appId":"` + strings.Repeat("s", 65) + `"}`,
		"long authInfo":   `{"appSecret":"canary-secret","authInfo":"` + strings.Repeat("s", 16<<10) + `"}`,
		"not JSON":        `{canary-secret}`,
		"cut off":         `{"appSecret":"canary-secret"`,
		"not UTF-8":       `{"appSecret":"canary-secret` + "\xff" + `"}`,
		"an array":        `["canary-secret"]`,
	} {
		_, err := ParseRegistration([]byte(text))
		if !errors.Is(err, ErrRegistration) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
	if _, err := ParseRegistration(make([]byte, MaxRegistration+1)); !errors.Is(err, ErrRegistrationTooBig) {
		t.Errorf("64 KiB and a byte: %v", err)
	}
	if _, err := (&Registration{AuthInfo: json.RawMessage("{")}).Append(nil); err == nil {
		t.Error("a broken authInfo was written")
	}
}
