package keys

import (
	"strings"

	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

// service is a KMS whose client is part of this program: sigstore's own, so that a URI
// means here what it means to cosign. To import a client is to make it known to
// sigstore's kms.Get.
type service struct {
	scheme string
	shape  string // of its URIs, for a person
	valid  func(uri string) error
}

// services are the clients that are compiled in. For any other scheme a program is
// asked: sigstore's plugin protocol.
var services = []service{
	{aws.ReferenceScheme, "awskms:///KEY-ID, awskms:///ARN, awskms:///alias/NAME, or the same behind awskms://HOST:PORT/", aws.ValidReference},
	{azure.ReferenceScheme, "azurekms://VAULT-HOST/KEY or azurekms://VAULT-HOST/KEY/VERSION", azure.ValidReference},
	{gcp.ReferenceScheme, "gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/VERSION", gcp.ValidReference},
	{hashivault.ReferenceScheme, "hashivault://KEY", hashivault.ValidReference},
	{hashivault.AlternativeScheme, "openbao://KEY", hashivault.ValidReference},
}

// serviceOf finds the compiled-in client that answers for a URI.
func serviceOf(uri string) (s service, ok bool) {
	for _, s := range services {
		if strings.HasPrefix(uri, s.scheme) {
			return s, true
		}
	}
	return service{}, false
}
