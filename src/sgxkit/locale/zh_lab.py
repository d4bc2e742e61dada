"""Chinese for the sentences of AESM and of labs."""

CATALOG: dict[str, str] = {
    "request {number} is not one that is served": "不提供请求 {number}",
    "response {number} is not one that is known": "未知的应答 {number}",
    "{count} messages in it, must be one": "其中有 {count} 条消息，必须恰好一条",
    "field {number} is not a message": "字段 {number} 不是消息",
    "not a number between 0 and {limit}": "不是 0 到 {limit} 之间的数字",
    "its error code is no number": "其错误码不是数字",
    "not a byte string": "不是字节串",
    "the AESM daemon closed the connection without an answer": "AESM 守护进程未作应答就关闭了连接",
    "the AESM daemon's answer is malformed: {problem}": "AESM 守护进程的应答格式有误：{problem}",
    "this system has no UNIX sockets": "本系统没有 UNIX 套接字",
    "that is how daemons refuse a request that they do not know": "守护进程就是这样拒绝它不认识的请求的",
    "a nonce has 16 bytes and a target info 512": "nonce 有 16 字节，target info 有 512 字节",
    "a report has {expected} bytes, not {size}": "report 有 {expected} 字节，而不是 {size} 字节",
    "the AESM daemon at {address} did not answer in time": "{address} 处的 AESM 守护进程未按时应答",
    "there is no AESM daemon at {address}: {reason}": "{address} 处没有 AESM 守护进程：{reason}",
    "give the address as tcp://127.0.0.1:PORT": "请以 tcp://127.0.0.1:PORT 的形式给出地址",
    "cut short": "不完整",
    "not a number of keys": "不是密钥的数目",
    "not the response to this request": "不是对此请求的应答",
    "it may be fetching the platform's certificate; its log says what it does": (
        "它可能正在获取平台的证书；它的日志会说明它在做什么"
    ),
    "`sgxkit doctor` says what is missing; `sgxkit lab serve` runs one that is emulated": (
        "`sgxkit doctor` 会说明缺少什么；`sgxkit lab serve` 会运行一个模拟的守护进程"
    ),
    "not of the kind and version that is known": "不是已知的种类和版本",
    "a number of more than 64 bits": "超过 64 位的数字",
    "a message of {size} bytes, between 1 and {limit} are read": "消息有 {size} 字节，只读取 1 到 {limit} 字节的消息",
    "a field is longer than the message": "字段比消息还长",
    "there is no field {number}": "没有字段 {number}",
    "more than {limit} fields": "超过 {limit} 个字段",
    "it ends inside a number": "在数字中间结束",
    "wire type {kind} is not read": "不读取线路类型 {kind}",
    "{text} is not the address of an AESM daemon": "{text} 不是 AESM 守护进程的地址",
    "the path of a socket has 1 to {limit} bytes: {path}": "套接字路径有 1 到 {limit} 字节：{path}",
    "it is the path of a socket, or tcp://127.0.0.1:PORT": "它是套接字的路径，或 tcp://127.0.0.1:PORT",
    "choose a shorter one": "请选择更短的",
    "another AESM daemon listens at {address}": "另一个 AESM 守护进程正在 {address} 监听",
    "cannot listen at {address}: {reason}": "无法在 {address} 监听：{reason}",
    "{path} exists and is not a socket": "{path} 已存在，且不是套接字",
    "choose another path, or stop it": "请选择另一路径，或停止它",
    "the daemon's log says why: `journalctl -u aesmd`": "守护进程的日志会说明原因：`journalctl -u aesmd`",
    "the daemon fetches the platform's certificate: look at /etc/sgx_default_qcnl.conf": (
        "守护进程要获取平台的证书：请查看 /etc/sgx_default_qcnl.conf"
    ),
    "a plug-in is missing or did not start: libsgx-aesm-quote-ex-plugin": (
        "缺少插件或插件未能启动：libsgx-aesm-quote-ex-plugin"
    ),
    "libsgx-aesm-ecdsa-plugin is missing, or its quoting enclave did not load": (
        "缺少 libsgx-aesm-ecdsa-plugin，或其 quoting enclave 未能加载"
    ),
    "a quote provider is missing: libsgx-dcap-default-qpl": "缺少 quote provider：libsgx-dcap-default-qpl",
    "initialise the attestation key first, then ask again": "请先初始化证明密钥，再重新请求",
    "the platform is not registered, or the PCCS does not have its certificate": (
        "平台没有注册，或 PCCS 没有它的证书"
    ),
    "the report was not made on this platform for this quoting enclave": (
        "此 report 不是在本平台上为此 quoting enclave 生成的"
    ),
    "AESM answered {code}: {name}": "AESM 应答 {code}：{name}",
    "attestation keys": "证明密钥",
    "quoting enclave": "quoting enclave",
    "not known: the key is not initialised yet": "未知：密钥尚未初始化",
    "size of a quote": "quote 的大小",
    "asking the AESM daemon": "正在询问 AESM 守护进程",
    "{name} is not a name for a lab": "{name} 不能作为 lab 的名称",
    "the EPC must be whole pages of 4096 bytes, at most 1 TiB": "EPC 必须是若干个 4096 字节的整页，最多 1 TiB",
    "the PCK certificate of lab {name} is revoked already": "lab {name} 的 PCK 证书已被吊销",
    "a lab's clock may be at most a hundred years off": "lab 的时钟最多可以偏离一百年",
    "lab {name} has seen enough: make a new one": "lab {name} 经历的事件已经够多：请新建一个",
    "not the state of a lab that this sgxkit reads": "不是本版 sgxkit 所能读取的 lab 状态",
    "not a number of seconds": "不是秒数",
    "neither platform nor qe": "既不是 platform 也不是 qe",
    "neither true nor false": "既不是 true 也不是 false",
    "1 to 31 small letters, digits and hyphens; the first is no hyphen": (
        "1 到 31 个小写字母、数字和连字符；首字符不能是连字符"
    ),
    "a TCB recovery that the platform takes part in (--patched) gives it a new one": (
        "平台参与的 TCB recovery（--patched）会给它一份新证书"
    ),
    "a newer sgxkit wrote it, or it was changed by hand": "它由更新版本的 sgxkit 写成，或被手工改过",
    "there is no processor {name}; there are {names}": "没有处理器 {name}；有 {names}",
    "{name} has no {feature}": "{name} 没有 {feature}",
    "there is a lab {name} already": "已经有名为 {name} 的 lab",
    "not the files of a lab": "不是 lab 的文件",
    "there is no lab {name}": "没有名为 {name} 的 lab",
    "`sgxkit lab rm {name}` removes it": "`sgxkit lab rm {name}` 可将其删除",
    "`sgxkit lab list` shows those there are": "`sgxkit lab list` 会列出现有的 lab",
    "`sgxkit lab create NAME` makes one": "`sgxkit lab create NAME` 可新建一个",
    "lab {name} is being changed by another process": "另一进程正在更改 lab {name}",
    "try again": "请重试",
    "lab {name} could not be served": "无法提供 lab {name} 的服务",
    "lab {name} is served already": "lab {name} 的服务已在运行",
    "{path} says why": "{path} 中说明了原因",
    "`sgxkit lab status {name}` says where": "`sgxkit lab status {name}` 会说明在何处",
    "process {pid} does not stop serving lab {name}": "进程 {pid} 没有停止 lab {name} 的服务",
    "an emulated quote of lab {name}: genuine under its own root only": (
        "lab {name} 的模拟 quote：仅在它自己的根之下为真"
    ),
    "sgxkit quote verify {quote} --trusted-root {root} ...": "sgxkit quote verify {quote} --trusted-root {root} ...",
    "lab {name}": "lab {name}",
    "emulated: it protects nothing": "模拟的：不提供任何保护",
    "accepted by default": "默认策略接受",
    "a quote made now": "此刻生成的 quote",
    "root certificate": "根证书",
    "processor": "处理器",
    "TCB evaluation data number": "TCB evaluation data number",
    "root CRL": "根 CRL",
    "process": "进程",
    "Ctrl-C stops it": "按 Ctrl-C 停止",
    "{text} is not a size": "{text} 不是大小",
    "--user-data: {size} bytes, at most 64 fit": "--user-data：{size} 字节，最多容纳 64 字节",
    "TCB status": "TCB 状态",
    "PCK certificate revoked": "PCK 证书被吊销于",
    "nothing published since": "自此时起不再发布",
    "clock ahead by": "时钟超前",
    "TLS certificate": "TLS 证书",
    "starting lab {name}": "正在启动 lab {name}",
    "lab {name} is not served": "lab {name} 的服务没有运行",
    "such as 94M, 8G or a number of bytes": "例如 94M、8G 或字节数",
    "--user-data: after hex: come hexadecimal digits, two a byte": (
        "--user-data：hex: 之后是十六进制数字，每字节两位"
    ),
    "--{option} is 64 hexadecimal digits": "--{option} 是 64 位十六进制数字",
}
