"""Chinese for the sentences about enclave images, their measurement and their signing."""

CATALOG: dict[str, str] = {
    "{value}, must be {expected}": "{value}，应为 {expected}",
    "the size of an enclave must be a power of two from 8192 on, this is {size}": "enclave 的大小必须是不小于 8192 的 2 的幂，这里是 {size}",
    "SSAFRAMESIZE must not be zero": "SSAFRAMESIZE 不能为零",
    "a page of type {type} cannot be added": "类型为 {type} 的页不能被添加",
    "PENDING, MODIFIED and PR are not for added pages": "添加的页不能带有 PENDING、MODIFIED 和 PR",
    "a TCS is measured without permissions": "TCS 在度量时不带权限",
    "a page that can be written must be readable": "可写的页必须可读",
    "this needs {package}, which is not installed": "这需要 {package}，但它没有安装",
    "{command} installs it": "{command} 可安装它",
}
