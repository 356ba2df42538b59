package auth

import "time"

// The kinds of login that every installation knows. A custom OpenID issuer's
// kind is the name it was configured under.
const (
	TypeAnonymous = "anonymous"
	TypeNickname  = "nickname"
	TypeGoogle    = "google"
)

// Identity is who a login proved somebody to be. Type, ID and Name may be kept;
// Email, Locale and Picture live in the token only.
type Identity struct {
	Type, ID, Name         string
	Email, Locale, Picture string
}

// Verified is what a checked token says.
type Verified struct {
	// App is the app the token was made for: 64 lowercase hexadecimal digits.
	App string
	// ID is the user's id, Type the kind of login, Name what to call the user.
	ID, Type, Name string
	// Expires is the token's own end, without leeway.
	Expires time.Time
}
