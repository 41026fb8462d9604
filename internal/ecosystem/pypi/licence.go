package pypi

import (
	"slices"
	"strings"
)

// maxLicence is the most bytes that a licence's name may have; what is longer is a
// text, not a name.
const maxLicence = 120

// Licence is what a distribution's METADATA says of its licence, as its publisher
// wrote it: the SPDX expression (License-Expression, PEP 639), else the names in its
// classifiers, else License if that is a name and no text. Empty if it says none.
// It is the publisher's word and decides nothing.
func Licence(metadata []byte) string {
	fields, err := metadataFields(metadata)
	if err != nil {
		return ""
	}
	var expression, free string
	var classified []string
	for _, f := range fields {
		v := strings.TrimSpace(f[1])
		switch f[0] {
		case "license-expression":
			expression = v
		case "license":
			free = v
		case "classifier":
			if rest, ok := strings.CutPrefix(v, "License :: "); ok {
				n := rest[strings.LastIndex(rest, ":")+1:]
				if n = strings.TrimSpace(n); n != "OSI Approved" && len(classified) < 5 && !slices.Contains(classified, n) {
					classified = append(classified, n)
				}
			}
		}
	}
	for _, v := range []string{expression, strings.Join(classified, ", "), free} {
		if v != "" && v != "UNKNOWN" && len(v) <= maxLicence && !hasControl(v) {
			return v
		}
	}
	return ""
}
