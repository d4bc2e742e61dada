"""The webhook as a server: AdmissionReview in, AdmissionReview out (admission.k8s.io/v1), over TLS.

The certificate is loaded again when its file changed, since whoever issues it renews it.
"""

from __future__ import annotations

import base64
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgxkit.errors import InputError
from sgxkit.kubernetes.admission import AdmissionSettings, RefusedError, admit
from sgxkit.kubernetes.endpoint import Question, Reply, health_reply, serving
from sgxkit.messages import msg

_LOG = logging.getLogger("sgxkit.kubernetes.webhook")

PATH = "/mutate-v1-pod"
LARGEST_REVIEW = 8 << 20
"""The API server takes objects of up to 3 MiB, and sends the old one as well."""
_API_VERSION = "admission.k8s.io/v1"
_RELOAD_SECONDS = 30.0
_FORBIDDEN = 403


def review_answer(body: bytes, settings: AdmissionSettings) -> Reply:
    """Answer an AdmissionReview: 200 with the response, 400 for what is none."""
    try:
        review = json.loads(body)
        request = review["request"]
        uid, pod = request["uid"], request["object"]
        # A pod that a controller makes has its namespace in the request alone.
        namespace = str(request.get("namespace") or "")
        if review.get("apiVersion") != _API_VERSION or not isinstance(uid, str) or not isinstance(pod, dict):
            return Reply(400, b"no AdmissionReview of admission.k8s.io/v1\n")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Reply(400, b"no AdmissionReview of admission.k8s.io/v1\n")
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    try:
        if pod.get("kind", "Pod") == "Pod" and request.get("operation", "CREATE") == "CREATE":
            admission = admit(pod, namespace, settings)
            if admission.operations:
                patch = json.dumps(admission.operations).encode()
                response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
            if admission.warnings:
                response["warnings"] = [str(one) for one in admission.warnings]
    except RefusedError as error:
        response |= {"allowed": False, "status": {"code": _FORBIDDEN, "message": str(error.message)}}
    except (AttributeError, TypeError):
        return Reply(400, b"a pod whose fields are of other types\n")
    document = {"apiVersion": _API_VERSION, "kind": "AdmissionReview", "response": response}
    return Reply(200, json.dumps(document).encode(), "application/json")


def webhook_responder(settings: AdmissionSettings) -> Callable[[Question], Reply]:
    """Return what answers the API server's reviews, and the kubelet's probes."""

    def respond(question: Question) -> Reply:
        if question.method == "POST":
            path = question.path.partition("?")[0]  # the API server adds ?timeout=
            return review_answer(question.body, settings) if path == PATH else Reply(404)
        return health_reply(question.path, alive=True, unready=None) or Reply(404)

    return respond


@contextmanager
def webhook(
    address: tuple[str, int], certificate: Path, key: Path, settings: AdmissionSettings
) -> Iterator[tuple[str, int]]:
    """Serve until the block ends; raises InputError for a certificate that cannot be used, or an address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, certificate, key)
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(context, certificate, key, stop), name="renew", daemon=True)
    renewing.start()
    try:
        with serving(address, webhook_responder(settings), tls=context, largest_body=LARGEST_REVIEW) as listening:
            yield listening
    finally:
        stop.set()
        renewing.join()


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            msg(
                "{path} cannot be used as a certificate with {key}: {reason}", path=certificate, key=key, reason=error
            )
        ) from error


def _renew(context: ssl.SSLContext, certificate: Path, key: Path, stop: threading.Event) -> None:
    loaded = _content(certificate)
    while not stop.wait(_RELOAD_SECONDS):
        now = _content(certificate)
        if now not in (None, loaded):
            try:
                _load(context, certificate, key)
                loaded = now
                _LOG.info("%s", msg("the certificate was renewed"))
            except InputError as error:  # half of a renewal; the old one is in use until the next look
                _LOG.warning("%s", error)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
