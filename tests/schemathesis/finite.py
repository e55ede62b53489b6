"""Takes what never ends by itself (`x-stream: true`) out of an OpenAPI document. Usage: finite.py < FROM > TO"""

import json
import sys


def stays_open(part):
    return isinstance(part, dict) and part.get("x-stream") is True


def finite(part):
    if isinstance(part, dict):
        return {name: finite(value) for name, value in part.items() if not stays_open(value)}
    if isinstance(part, list):
        return [finite(value) for value in part if not stays_open(value)]
    return part


json.dump(finite(json.load(sys.stdin)), sys.stdout)
