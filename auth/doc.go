// Package auth answers one question: who may.
//
// It makes and checks the tokens that clients carry ([Tokens]), turns the four
// ways to log in (anonymous, nickname, google, any OpenID issuer) into an
// [Identity] ([Providers]), reads the login configuration that backends register
// ([LoginConfig]) and handles app secrets ([Secret]).
//
// It refuses: a token without exp, aud or iss, of another issuer, signed with
// anything but EdDSA by a key it is told of, valid for longer than allowed, or
// larger than [MaxToken], before it parses it; an issuer that answers slowly,
// with more than 64 KiB, with a redirect, or from a loopback or link-local
// address that the operator did not list.
//
// It knows no socket of a client, no table and no log of the cluster: app ids are
// 64 lowercase hexadecimal digits in text, keys are handed in. It starts no
// goroutine. Package auth/logins keeps who has logged in.
package auth
