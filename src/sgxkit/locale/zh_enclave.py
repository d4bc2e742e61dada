"""Chinese for the sentences about enclave images, their measurement and their signing."""

CATALOG: dict[str, str] = {
    "{value}, must be {expected}": "{value}，应为 {expected}",
}
