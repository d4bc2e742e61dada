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
    "is another version than {expected}, which this sgxkit reads": "不是本版 sgxkit 所读取的版本 {expected}",
    "Read the facts again with this version's `sgxkit doctor --export`.": (
        "请用本版本的 `sgxkit doctor --export` 重新读取。"
    ),
    "is larger than {limit} bytes": "超过 {limit} 字节",
    "is not JSON: {reason}": "不是 JSON：{reason}",
    "has a YAML alias": "含有 YAML 别名",
    "is nested more than {limit} deep": "嵌套超过 {limit} 层",
    "is not YAML: {reason}": "不是 YAML：{reason}",
    "has none of the keys of an sgx-detect export": "没有 sgx-detect 导出文件的任何键",
    "is not a list of {count} numbers": "不是 {count} 个数字的列表",
    'is neither "Ok" nor "Err"': "既不是“Ok”也不是“Err”",
    "does not fit {bits} bits": "超出 {bits} 位",
    "is not a power of two": "不是 2 的幂",
    "is not UTF-8 text": "不是 UTF-8 文本",
    "is neither a facts document nor an export of sgx-detect": "既不是事实文档，也不是 sgx-detect 的导出文件",
    "Make one on the host with `sgxkit doctor --export FILE` or `sgx-detect --export`.": (
        "请在该主机上用 `sgxkit doctor --export FILE` 或 `sgx-detect --export` 生成。"
    ),
    "{path} cannot be read: {reason}": "无法读取 {path}：{reason}",
    "There is no Python interpreter to run the probe with.": "没有可用来运行探测程序的 Python 解释器。",
    "The probe gave no answer within {seconds:g} seconds.": "探测程序在 {seconds:g} 秒内没有应答。",
    "A system call of this host hangs; look for processes in state D and at the kernel's log.": (
        "本机有系统调用挂起；请检查处于 D 状态的进程和内核日志。"
    ),
    "The probe of this host failed: {reason}": "本机探测失败：{reason}",
    "The probe of this host gave no valid document: {reason}": "本机探测没有给出有效的文档：{reason}",
    'has the key "{name}" twice': "键“{name}”出现两次",
}
