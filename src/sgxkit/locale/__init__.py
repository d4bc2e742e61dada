"""Translations: for each language one mapping from the English template to its translation.

A language's catalogue is the union of its files here, one file a subject. `tests/unit/test_locale.py` holds them
complete: every template in the source has a translation with the same fields, and no translation is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache


@cache
def catalog(language: str) -> Mapping[str, str]:
    """Return the translations into `language`; English needs none."""
    if language != "zh":
        return {}
    from sgxkit.locale import (  # noqa: PLC0415 - English readers do not pay for it
        zh_attestation,
        zh_cli,
        zh_collateral,
        zh_containerize,
        zh_diagnose,
        zh_driver,
        zh_enclave,
        zh_engine,
        zh_envelope,
        zh_facts,
        zh_gramine,
        zh_host,
        zh_kubernetes,
        zh_lab,
        zh_processor,
        zh_run,
        zh_sdk,
        zh_selftest,
        zh_setup,
        zh_up,
        zh_verifier,
    )

    return {
        **zh_cli.CATALOG,
        **zh_attestation.CATALOG,
        **zh_collateral.CATALOG,
        **zh_diagnose.CATALOG,
        **zh_driver.CATALOG,
        **zh_enclave.CATALOG,
        **zh_engine.CATALOG,
        **zh_envelope.CATALOG,
        **zh_facts.CATALOG,
        **zh_gramine.CATALOG,
        **zh_containerize.CATALOG,
        **zh_host.CATALOG,
        **zh_kubernetes.CATALOG,
        **zh_lab.CATALOG,
        **zh_processor.CATALOG,
        **zh_run.CATALOG,
        **zh_sdk.CATALOG,
        **zh_selftest.CATALOG,
        **zh_setup.CATALOG,
        **zh_up.CATALOG,
        **zh_verifier.CATALOG,
    }
