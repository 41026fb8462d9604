package evidence

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Object identifiers of what a time stamp consists of.
var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}        // RFC 5652 section 5.1
	oidTSTInfo    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4} // RFC 3161 section 2.4.2
	oidSHA256     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// The frame of an RFC 3161 response. Libraries read it leniently, and much of
// it is outside of what the signature covers.
type (
	stampResponse struct {
		Status stampStatus
		Token  stampToken
	}
	stampStatus struct {
		Status int // 0: granted
	}
	stampToken struct {
		Type    asn1.ObjectIdentifier
		Content stampSigned `asn1:"explicit,tag:0"`
	}
	stampSigned struct {
		Version      int
		Algorithms   []pkix.AlgorithmIdentifier `asn1:"set"`
		Encap        stampContent
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
		Signers      []stampSigner `asn1:"set"`
	}
	stampContent struct {
		Type    asn1.ObjectIdentifier
		Content []byte `asn1:"explicit,tag:0"`
	}
	stampSigner struct {
		Version    int
		SID        stampIssuer
		Digest     pkix.AlgorithmIdentifier
		Attributes []stampAttribute `asn1:"set,tag:0"`
		Algorithm  pkix.AlgorithmIdentifier
		Signature  []byte
	}
	stampIssuer struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	stampAttribute struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue
	}
)

// strictStamp demands of a time stamp the one spelling that DER allows: a
// granted response with one signer, SHA-256, and the content type of time
// stamps, which comes out the same when it is written again. Whether it was
// signed by whom it should be is checked elsewhere.
func strictStamp(token []byte) error {
	_, err := readStamp(token)
	return err
}

// readStamp is strictStamp, and gives what was read.
func readStamp(token []byte) (r stampResponse, err error) {
	rest, err := asn1.Unmarshal(token, &r)
	if err != nil {
		return r, err
	}
	if len(rest) > 0 {
		return r, errors.New("there are bytes behind it")
	}
	d := r.Token.Content
	switch {
	case r.Status.Status != 0:
		return r, fmt.Errorf("status %d: it was not granted", r.Status.Status)
	case !r.Token.Type.Equal(oidSignedData):
		return r, fmt.Errorf("content type %v", r.Token.Type)
	case d.Version != 3 || len(d.Signers) != 1 || d.Signers[0].Version != 1:
		// RFC 5652 sections 5.1 and 5.3 for this content and a signer named by
		// issuer and serial number.
		return r, errors.New("want version 3 with one signer of version 1")
	case !d.Encap.Type.Equal(oidTSTInfo):
		return r, fmt.Errorf("encapsulated content type %v", d.Encap.Type)
	case len(d.Algorithms) != 1 || !d.Algorithms[0].Algorithm.Equal(oidSHA256):
		return r, errors.New("its digest algorithm is not SHA-256")
	case !d.Signers[0].Digest.Algorithm.Equal(oidSHA256):
		return r, errors.New("its signer does not use SHA-256")
	}
	for _, a := range d.Signers[0].Attributes {
		if v := a.Values; v.Class != asn1.ClassUniversal || v.Tag != asn1.TagSet || !v.IsCompound {
			return r, fmt.Errorf("attribute %v is no set", a.Type)
		}
		// The values of the attributes that the standards demand are a set of
		// one element that fills it.
		var one asn1.RawValue
		if rest, err := asn1.Unmarshal(a.Values.Bytes, &one); err != nil || len(rest) > 0 {
			return r, fmt.Errorf("attribute %v has not one value", a.Type)
		}
	}
	again, err := asn1.Marshal(r)
	if err != nil {
		return r, err
	}
	if !bytes.Equal(again, token) {
		return r, errors.New("it is not spelled as DER demands")
	}
	return r, nil
}

// stampInfo is the beginning of what a time stamp says (RFC 3161 section 2.4.2).
type stampInfo struct {
	Version int
	Policy  asn1.ObjectIdentifier
	Imprint struct {
		Algorithm pkix.AlgorithmIdentifier
		Hash      []byte
	}
}

// overSHA256 tells whether it is the SHA-256 of something that was stamped.
func (r *stampResponse) overSHA256() bool {
	var info stampInfo
	_, err := asn1.Unmarshal(r.Token.Content.Encap.Content, &info)
	return err == nil && info.Imprint.Algorithm.Algorithm.Equal(oidSHA256)
}
