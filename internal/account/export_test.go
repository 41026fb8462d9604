package account

// What tests reach.
var (
	ParseCreation  = parseCreation
	ParseAssertion = parseAssertion
	LoginName      = loginName
	Printable      = printable
)
