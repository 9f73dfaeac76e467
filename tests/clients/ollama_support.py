"""What the scripts of Ollama's client share."""

import argparse
import sys

from ollama import Client

from support import Failed


def main(check):
    """Runs `check(client, url)` against --base-url; it returns the summary line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True, help="e.g. http://127.0.0.1:7480/v1")
    url = parser.parse_args().base_url.removesuffix("/v1")
    try:
        print(check(Client(host=url, timeout=120), url))
    except Failed as failed:
        sys.exit(f"failed: {failed}")
