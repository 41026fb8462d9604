# Asks pip itself what its install command would use: files, environment and
# built-in defaults, joined by pip's own rules. Prints one JSON document.
import json

from pip._internal.commands import create_command

options, _ = create_command("install").parser.parse_args([])


def get(name, default):
    value = getattr(options, name, None)
    return default if value is None else value


print(
    json.dumps(
        {
            "index_url": get("index_url", ""),
            "extra_index_urls": list(get("extra_index_urls", [])),
            "find_links": list(get("find_links", [])),
            "no_index": bool(get("no_index", False)),
            "cert": get("cert", ""),
            "client_cert": get("client_cert", ""),
            "proxy": get("proxy", ""),
            "trusted_hosts": list(get("trusted_hosts", [])),
            "timeout": float(get("timeout", 15)),
            "retries": int(get("retries", 5)),
        }
    )
)
