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
    "a newer sgxkit wrote the bundle, or it was changed by hand": "该 bundle 由更新版本的 sgxkit 写出，或被手工改动过",
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
}
