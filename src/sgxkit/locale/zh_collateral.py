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
}
