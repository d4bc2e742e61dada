"""Chinese for the sentences of `sgxkit`: collateral."""

CATALOG: dict[str, str] = {
    # signed_json.py
    "the key {key} occurs twice in one object": "键 {key} 在同一个对象中出现了两次",
    "the number {literal} is not an integer": "数字 {literal} 不是整数",
    "{literal} is not JSON": "{literal} 不是 JSON",
    "the number {literal} does not fit in 64 bits": "数字 {literal} 超出 64 位范围",
    "it contains a lone surrogate, which is not text": "其中含有孤立的代理字符，不是合法文本",
    "it contains a backslash; no document signed by Intel does": "其中含有反斜杠；Intel 签名的文档中从不出现",
    "it is nested deeper than {limit}": "嵌套深度超过 {limit} 层",
    "not JSON: {reason} at character {position}": "不是 JSON：第 {position} 个字符处 {reason}",
    "the document is not an object": "文档不是 JSON 对象",
    "the document has the keys {found}; it must have {member} and signature": (
        "文档的键为 {found}；应当恰好是 {member} 和 signature"
    ),
    "it is not 128 hexadecimal digits": "它不是 128 个十六进制数字",
    "it is not an object": "它不是 JSON 对象",
    "it is not where the document's keys say": "它不在文档的键所指的位置",
    # collateral.py
    "it is longer than {limit} bytes": "长度超过 {limit} 字节",
    "it is neither DER nor text": "它既不是 DER 也不是文本",
    "it is not PEM, hexadecimal or base64 digits, or DER": "它不是 PEM、十六进制、base64，也不是 DER",
    "it is not {expected}": "它不是 {expected}",
    "this sgxkit reads bundles of version {expected}": "此版本的 sgxkit 读取的 bundle 版本为 {expected}",
    "a newer sgxkit wrote the bundle, or it was changed by hand": "该 bundle 由更新的 sgxkit 写出，或被手工改动过",
    "it is not a string": "它不是字符串",
    "a bundle of this shape has no such key": "这种形式的 bundle 没有这个键",
    "it is missing": "缺少该字段",
    "it is not a 32-bit number": "它不是 32 位数字",
    "it is neither 0 (SGX) nor 129 (TDX)": "它既不是 0（SGX）也不是 129（TDX）",
    "the collateral structure has versions 1.0, 3.0 and 3.1, not {found}": (
        "collateral 结构的版本有 1.0、3.0 和 3.1，没有 {found}"
    ),
    "it is not UTF-8": "它不是 UTF-8",
    "it is not an array of bytes": "它不是字节数组",
    "it is an object; what is signed is its text, which must stand here as a string": (
        "它是一个对象；签名覆盖的是其文本，此处必须是字符串"
    ),
    "`sgxkit collateral fetch` writes a bundle that has it": "`sgxkit collateral fetch` 写出的 bundle 包含该文本",
    "it is not hexadecimal digits, two a byte": "它不是每字节两位的十六进制数字",
    "it has {length} bytes; a signature has 64": "它有 {length} 字节；签名应为 64 字节",
    # pcs.py
    "version 3 of the PCS API has ended; a PCS is asked by version 4": "PCS API 第 3 版已停止服务；请使用第 4 版",
    "version 3 of the API knows no TDX; the PCCS must be asked by version 4": (
        "API 第 3 版不支持 TDX；必须以第 4 版访问 PCCS"
    ),
    "an encrypted PPID has 256 or 384 bytes, not {length}": "加密的 PPID 为 256 或 384 字节，而不是 {length}",
    "a PPID in the clear (certification data type 1) cannot be used to ask for a PCK certificate": (
        "明文 PPID（certification data 类型 1）不能用来请求 PCK 证书"
    ),
    "a PCCS finds PCK certificates by QE ID, which is missing": "PCCS 按 QE ID 查找 PCK 证书，但缺少 QE ID",
    "{url} is not an address: {reason}": "{url} 不是地址：{reason}",
    "{url} is not the address of a service": "{url} 不是服务的地址",
    "it begins with https:// and a host, such as {example}": "地址以 https:// 和主机名开头，例如 {example}",
    "the address of a service has no user, query or fragment: {url}": "服务地址不得含有用户名、查询或片段：{url}",
    "{name} has {expected} bytes, not {length}": "{name} 应为 {expected} 字节，而不是 {length}",
    "an evaluation number and the early update exclude each other": "evaluation number 与 early 更新不能同时使用",
    "a subscription key is sent over https only, not to {url}": "订阅密钥只通过 https 发送，不发往 {url}",
    "the subscription key is not letters and digits": "订阅密钥应只含字母和数字",
    "it is empty": "它是空的",
    "warning: under Intel's root, every quote judged by it is refused: {reason}": (
        "警告：以 Intel 的根为信任锚时，按它判断的 quote 都会被拒绝：{reason}"
    ),
    "this user has no home folder to cache collateral in": "该用户没有主目录，无处缓存 collateral",
    "name a folder in the environment: SGXKIT_CACHE_DIR": "请用环境变量 SGXKIT_CACHE_DIR 指定一个目录",
    "the header is missing": "缺少该 HTTP 头",
    "the header is not PEM certificates": "该 HTTP 头不是 PEM 证书",
    "it is not a PEM certificate": "它不是 PEM 证书",
    "the service's answer is malformed: {problem}": "服务的应答格式有误：{problem}",
    "the service's {document} is not the one asked for: its {key} is {found}, not {expected}": (
        "服务给出的 {document} 不是所请求的：其 {key} 为 {found}，而不是 {expected}"
    ),
    # transport.py
    "a CA file and `insecure` exclude each other": "CA 文件与 `insecure` 不能同时使用",
    "{path} cannot be used as CA file: {reason}": "{path} 不能用作 CA 文件：{reason}",
    "it must be a readable file of PEM certificates": "它必须是可读的 PEM 证书文件",
    "no complete answer within {seconds} seconds": "{seconds} 秒内没有得到完整的应答",
    "try again later, or judge by a bundle (`sgxkit quote verify --collateral FILE`)": "请稍后重试，或按 bundle 判断（`sgxkit quote verify --collateral FILE`）",
    "{problem}; asking again in {seconds} s ({attempt} of {attempts})": (
        "{problem}；{seconds} 秒后再次请求（第 {attempt} 次，共 {attempts} 次）"
    ),
    "{where} answered in the encoding {encoding}": "{where} 以编码 {encoding} 应答",
    "{where} answered more than {limit} bytes": "{where} 的应答超过 {limit} 字节",
    "{where} does not answer ({reason})": "{where} 没有应答（{reason}）",
    "{where} is not trusted: {reason}": "{where} 不受信任：{reason}",
    "a PCCS with its own certificate needs `--ca-file FILE`; `--insecure` believes any": (
        "使用自签名证书的 PCCS 需要 `--ca-file FILE`；`--insecure` 则相信任何证书"
    ),
    "{where} cannot be reached: {reason}": "无法连接 {where}：{reason}",
    "see that the address and the proxy settings (HTTPS_PROXY, NO_PROXY) are right": (
        "请检查地址和代理设置（HTTPS_PROXY、NO_PROXY）"
    ),
    "{where} answered {status} ({said})": "{where} 应答 {status}（{said}）",
    "{where} answered {status}": "{where} 应答 {status}",
    "it has no collateral for this: see FMSPC, CA and evaluation number": (
        "服务没有对应的 collateral：请检查 FMSPC、CA 和 evaluation number"
    ),
    "this evaluation number or API version has ended: ask without it, or for v4": (
        "该 evaluation number 或 API 版本已停用：请去掉它，或改用 v4"
    ),
    "it wants a key: Intel's PCS a subscription key for PCK certificates": (
        "服务需要密钥：向 Intel PCS 请求 PCK 证书需要订阅密钥"
    ),
    "it asks to wait {seconds} s; a PCCS spares Intel's limit": (
        "服务要求等待 {seconds} 秒；使用 PCCS 可避免 Intel 的限制"
    ),
    "PCCS: its cached data failed an integrity check; have it refreshed": (
        "PCCS：其缓存数据未通过完整性检查；请刷新 PCCS 的缓存"
    ),
    "PCCS: the platform is not registered with it; see PCKIDRetrievalTool": (
        "PCCS：该平台尚未注册；参见 PCKIDRetrievalTool"
    ),
    "PCCS: Intel has no PCK certificates for some TCB levels of the platform": (
        "PCCS：Intel 对该平台的某些 TCB 级别没有 PCK 证书"
    ),
    "the service has trouble of its own; try later": "服务自身有故障；请稍后重试",
    "{where} redirects to {to}; redirects are not followed": "{where} 重定向到 {to}；不跟随重定向",
    "name the service by its final address": "请使用服务的最终地址",
    "see that the address is that of a PCS or PCCS": "请确认该地址是 PCS 或 PCCS",
    # cache.py, sources.py
    "the cached collateral {path} is not used: {reason}": "不使用缓存的 collateral {path}：{reason}",
    "the cached collateral {path} is not used: it answers another question": (
        "不使用缓存的 collateral {path}：它对应的是另一个请求"
    ),
    "another process has been fetching collateral for {seconds} seconds": (
        "另一个进程获取 collateral 已超过 {seconds} 秒"
    ),
    "try again later, or with --no-cache": "请稍后重试，或使用 --no-cache",
    "fetch it where the service can be reached, or import a bundle: `sgxkit collateral import FILE`": (
        "请在能访问服务的地方获取，或导入 bundle：`sgxkit collateral import FILE`"
    ),
    "no collateral for FMSPC {fmspc} in the cache": "缓存中没有 FMSPC {fmspc} 的 collateral",
    "the cached collateral for FMSPC {fmspc} ended on {date} ({piece})": (
        "FMSPC {fmspc} 的缓存 collateral 已于 {date} 到期（{piece}）"
    ),
    "it begins with {name}, not with a PCK CA": "它以 {name} 开头，而不是 PCK CA",
    "the cache {path} cannot be used: {reason}": "缓存 {path} 不可用：{reason}",
    "{text} is not an FMSPC: those have 12 hexadecimal digits": "{text} 不是 FMSPC：FMSPC 为 12 个十六进制数字",
    "its issuer {name} is not a PCK CA": "其签发者 {name} 不是 PCK CA",
    "neither the quote nor the bundle has the PCK certificate": "quote 和 bundle 中都没有 PCK 证书",
    "the quote names its platform by PPID in the clear; services want the encrypted PPID": (
        "quote 以明文 PPID 标明平台；而服务需要加密的 PPID"
    ),
    "the quote carries no PCK certificate, and no service may be asked for it": (
        "quote 中没有 PCK 证书，且不允许向任何服务请求"
    ),
    "the PCK certificate cannot be read: {problem}": "无法读取 PCK 证书：{problem}",
    "the quote carries none": "quote 中没有",
    "`sgxkit collateral fetch --quote` makes a bundle that has it": (
        "`sgxkit collateral fetch --quote` 生成的 bundle 包含它"
    ),
    "put the chain into a bundle as pck_certificate_chain": "把证书链作为 pck_certificate_chain 放入 bundle",
    "{path} cannot be read: {reason}": "无法读取 {path}：{reason}",
    "{path} cannot be written: {reason}": "无法写入 {path}：{reason}",
    # cli/collateral.py
    "warning: any TLS certificate is believed; who answers may be an impostor": (
        "警告：任何 TLS 证书都被相信；应答者可能是冒充的"
    ),
    "warning: no longer in force since {date} ({piece})": "警告：自 {date} 起已失效（{piece}）",
    "{tee} collateral for FMSPC {fmspc}, {ca} CA, evaluation number {number} (not verified)": (
        "FMSPC {fmspc} 的 {tee} collateral，{ca} CA，evaluation number {number}（未经验证）"
    ),
    "from": "来自",
    "in force until": "有效期至",
    "the cache": "缓存",
    "empty": "空",
    "in the cache": "缓存于",
    "written to": "写入",
    "TCB info, version {version}": "TCB info，版本 {version}",
    "identity {id}, evaluation number {number}": "identity {id}，evaluation number {number}",
    "TDX module {id}": "TDX module {id}",
    "{name}, {count} revoked": "{name}，吊销 {count} 个",
    "asking {service}": "正在询问 {service}",
    "an evaluation number and an update exclude each other": "evaluation number 与 update 不能同时使用",
    "the cache {path} has no such collateral": "缓存 {path} 中没有这样的 collateral",
    "`sgxkit collateral show cached` lists what it has": "`sgxkit collateral show cached` 列出缓存内容",
    "{count} sets of collateral in the cache fit": "缓存中有 {count} 组 collateral 符合",
    "choose one by --fmspc, --ca, --tee, --update; `sgxkit collateral show cached` lists them": (
        "请用 --fmspc、--ca、--tee、--update 选定一组；`sgxkit collateral show cached` 会列出它们"
    ),
    "--pcs and --pccs exclude each other": "--pcs 与 --pccs 不能同时使用",
    "a PCCS serves the root CRL itself; --root-crl goes with --pcs": (
        "PCCS 自己提供根 CRL；--root-crl 与 --pcs 搭配使用"
    ),
    "--collateral and --pcs, --pccs exclude each other: a bundle is all that is used": (
        "--collateral 与 --pcs、--pccs 不能同时使用：给出 bundle 时只使用它"
    ),
    "--fmspc and --ca are needed, or --quote": "需要 --fmspc 和 --ca，或者 --quote",
    "`sgxkit quote inspect QUOTE` shows a quote's FMSPC and who certified its platform": (
        "`sgxkit quote inspect QUOTE` 显示 quote 的 FMSPC 以及其平台由谁认证"
    ),
    "--quote and --fmspc, --ca, --tee exclude each other": "--quote 与 --fmspc、--ca、--tee 不能同时使用",
    "{count} quotes found; the collateral is for the first": "找到 {count} 个 quote；collateral 对应第一个",
}
