"""Chinese for the sentences of the facts document and of sgx-detect's exports."""

CATALOG: dict[str, str] = {
    "is not true or false": "不是 true 或 false",
    "is not an integer": "不是整数",
    "does not fit 64 bits": "超出 64 位",
    "is not a number": "不是数字",
    "is not a finite number": "不是有限的数字",
    "is not text": "不是文本",
    "is longer than {limit} characters": "超过 {limit} 个字符",
    "is not valid Unicode text": "不是有效的 Unicode 文本",
    'is not "0x" and {digits} hexadecimal digits': "不是“0x”加 {digits} 位十六进制数字",
    "is none of {allowed}": "不是下列之一：{allowed}",
    "is not a list": "不是列表",
    "has more than {limit} entries": "超过 {limit} 项",
    'is not an object with either "value" or "error"': "不是只含“value”或只含“error”的对象",
    "is not an object": "不是对象",
    "is missing": "缺失",
    "is {found}, and this version reads {expected}": "是 {found}，而本版本读取的是 {expected}",
    "Read the facts again with this version's `sgxkit doctor --export`.": (
        "请用本版本的 `sgxkit doctor --export` 重新读取。"
    ),
    "is larger than {limit} bytes": "超过 {limit} 字节",
    "is not JSON: {reason}": "不是 JSON：{reason}",
    'has the key "{name}" twice': "键“{name}”出现两次",
}
