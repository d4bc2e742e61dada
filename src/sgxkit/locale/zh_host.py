"""Chinese for the sentences of `sgxkit`: host."""

CATALOG: dict[str, str] = {
    "EINIT refused the enclave; the kernel does not say with which status.": "EINIT 拒绝了该 enclave；内核没有说明状态码。",
    # processor
    "SGX instruction set": "SGX 指令集",
    "CPU support": "CPU 支持",
    "CPU configuration": "CPU 配置",
    "Enclave attributes": "Enclave 属性",
    "Enclave Page Cache": "Enclave 页缓存（EPC）",
    "All logical CPUs agree": "所有逻辑 CPU 一致",
    "SGX features": "SGX 特性",
    "SGX2": "SGX2",
    "EXINFO": "EXINFO",
    "ENCLV": "ENCLV",
    "OVERSUB": "OVERSUB",
    "KSS": "KSS",
    "EDECCSSA": "EDECCSSA",
    "AEX-Notify": "AEX-Notify",
    "Total EPC size": "EPC 总容量",
    "FSGSBASE instructions": "FSGSBASE 指令",
    "Hyper-Threading off": "超线程已关闭",
    "CPUID": "CPUID",
    "IA32_FEATURE_CONTROL": "IA32_FEATURE_CONTROL",
    "CPU flags": "CPU 标志位",
    "microcode revision": "微码版本",
    "{size} (no integrity protection)": "{size}（无完整性保护）",
    "{first}, {second}": "{first}，{second}",
    "CPUID could not be read.": "无法读取 CPUID。",
    "CPUID was not read on every logical CPU.": "未能在每个逻辑 CPU 上读取 CPUID。",
    "This is an {architecture} processor; SGX exists only on Intel x86-64.": (
        "这是 {architecture} 处理器；只有 Intel x86-64 才有 SGX。"
    ),
    "The processor is {vendor}; only Intel makes processors with SGX.": (
        "处理器厂商为 {vendor}；只有 Intel 处理器带有 SGX。"
    ),
    "This is a virtual machine, and its hypervisor offers no SGX: CPUID does not list it.": (
        "这是一台虚拟机，而虚拟机监控器没有提供 SGX：CPUID 中没有列出。"
    ),
    "The processor has no SGX: CPUID does not list it.": "处理器不支持 SGX：CPUID 中没有列出。",
    "SGX is turned off in the BIOS set-up.": "SGX 在 BIOS 设置中被关闭。",
    "The BIOS says that SGX is enabled, but it is not.": "BIOS 声称 SGX 已启用，实际上并未启用。",
    "SGX is off now and will be enabled at the next boot.": "SGX 目前关闭，将在下次启动时启用。",
    "SGX is off; the BIOS leaves it to software to enable it for the next boot.": (
        "SGX 处于关闭状态；BIOS 允许由软件设置在下次启动时启用。"
    ),
    "SGX is off and controlled by software, but the EFI variables may not be read by this user.": (
        "SGX 处于关闭状态且由软件控制，但当前用户无权读取 EFI 变量。"
    ),
    "SGX is off, and the BIOS's software control of it does not work.": (
        "SGX 处于关闭状态，而且 BIOS 的软件控制机制不起作用。"
    ),
    "SGX is off; why could not be read for lack of rights.": "SGX 处于关闭状态；权限不足，无法读取原因。",
    "The hypervisor shows SGX but has not enabled it for this virtual machine.": (
        "虚拟机监控器显示有 SGX，但没有为这台虚拟机启用。"
    ),
    "The processor has SGX, but the firmware has not enabled it.": "处理器支持 SGX，但固件没有启用它。",
    "CPUID does not list the attributes of enclaves.": "CPUID 没有列出 Enclave 的属性。",
    "The processor refuses attributes that enclaves need: {names}.": "处理器不接受 Enclave 必需的属性：{names}。",
    "The processor does not let enclaves use x87 and SSE.": "处理器不允许 Enclave 使用 x87 和 SSE。",
    "There is enclave memory only of a kind that is not known here.": "只有未知类型的 Enclave 内存。",
    "SGX is enabled, but no memory is reserved for enclaves: the Enclave Page Cache is empty.": (
        "SGX 已启用，但没有为 Enclave 保留内存：EPC 为空。"
    ),
    "The logical CPUs do not agree ({what}): the firmware has not set them all up alike.": (
        "各逻辑 CPU 不一致（{what}）：固件没有对它们做相同的设置。"
    ),
    "The processor has SGX1 and none of its later features.": "处理器只支持 SGX1，不支持任何后续特性。",
    "The processor does not have {name}.": "处理器不支持 {name}。",
    "The kernel uses only {used} of the enclave memory: it has dropped a section.": (
        "内核只使用了 {used} 的 Enclave 内存：它舍弃了一个 EPC 区段。"
    ),
    "The kernel's list of CPU flags could not be read.": "无法读取内核的 CPU 标志列表。",
    "Programs may not use the FSGSBASE instructions, which Gramine needs: the kernel is older than 5.9.": (
        "程序不能使用 Gramine 必需的 FSGSBASE 指令：内核版本低于 5.9。"
    ),
    "Whether Hyper-Threading is on could not be read.": "无法读取超线程是否开启。",
    "Hyper-Threading is on; verifiers then see SW_HARDENING_NEEDED or worse, and some networks refuse that.": (
        "超线程已开启；验证方会看到 SW_HARDENING_NEEDED 或更差的状态，有些网络会拒绝。"
    ),
    # flexible launch control
    "Flexible launch control": "灵活启动控制（FLC）",
    "Able to launch production mode enclave": "能够启动生产模式 Enclave",
    "Any EINITTOKEN provider (or FLC)": "任一 EINITTOKEN 提供者（或 FLC）",
    "The hypervisor gives this virtual machine SGX without flexible launch control.": (
        "虚拟机监控器提供的 SGX 不带灵活启动控制（FLC）。"
    ),
    (
        "The processor has no flexible launch control; Linux's own driver and Intel's software since PSW 2.28 do "
        "not work without it."
    ): ("处理器不支持灵活启动控制（FLC）；Linux 内核自带的驱动和 PSW 2.28 起的 Intel 软件都离不开它。"),
    "Flexible launch control is locked by the BIOS, so the kernel cannot launch enclaves.": (
        "灵活启动控制（FLC）被 BIOS 锁定，内核无法启动 Enclave。"
    ),
    "Whether the BIOS has unlocked flexible launch control could not be read.": (
        "无法读取 BIOS 是否解锁了灵活启动控制（FLC）。"
    ),
    # kernel
    "SGX system software": "SGX 系统软件",
    "Linux kernel": "Linux 内核",
    "Kernel 5.11 or newer, and FLC": "内核 5.11 或更新，且有 FLC",
    "Kernel built with SGX": "内核编译时包含 SGX",
    "Not switched off at boot": "启动参数未禁用",
    "Driver generation": "驱动代次",
    "One driver only": "只有一个驱动",
    "No SGX trouble in the kernel's log": "内核日志中没有 SGX 故障",
    "Dynamic enclave memory (EDMM)": "Enclave 动态内存（EDMM）",
    "The kernel's release could not be read.": "无法读取内核版本。",
    "The kernel's own driver works only with flexible launch control.": (
        "内核自带的驱动只能在有灵活启动控制（FLC）时工作。"
    ),
    (
        "Kernel {release} has no SGX driver of its own (5.11 is the first); it depends on one that is no longer "
        "maintained."
    ): ("内核 {release} 没有自带的 SGX 驱动（从 5.11 开始才有），依赖的是已停止维护的驱动。"),
    "Kernel {release} has no SGX driver; 5.11 is the first.": "内核 {release} 没有 SGX 驱动；从 5.11 开始才有。",
    "The kernel is built without SGX; the driver comes from elsewhere.": "内核编译时未包含 SGX；驱动来自别处。",
    "The kernel is built without SGX.": "内核编译时未包含 SGX。",
    "Whether the kernel is built with SGX could not be read.": "无法读取内核编译时是否包含 SGX。",
    "The kernel's command line could not be read.": "无法读取内核命令行。",
    "SGX is switched off by nosgx on the kernel's command line.": "内核命令行中的 nosgx 禁用了 SGX。",
    "Which SGX driver there is could not be read.": "无法读取使用的是哪一种 SGX 驱动。",
    "The kernel has no SGX driver at work, for a reason that is not to be seen here.": (
        "内核中没有工作的 SGX 驱动，原因在此无法看出。"
    ),
    "The {driver} driver is no longer maintained; PSW 2.28 and later do not support it.": (
        "{driver} 驱动已停止维护；PSW 2.28 及以后版本不再支持。"
    ),
    "The old driver isgx is loaded beside another one; the two disturb each other.": (
        "旧驱动 isgx 与另一个驱动同时加载；两者会互相干扰。"
    ),
    "The old driver isgx is loaded, though this processor has flexible launch control.": (
        "处理器支持灵活启动控制（FLC），却加载了旧驱动 isgx。"
    ),
    "The list of kernel modules could not be read.": "无法读取内核模块列表。",
    "The kernel's log could not be read.": "无法读取内核日志。",
    "The kernel has lost EPC pages; SGX may stop working until the next boot.": (
        "内核丢失了 EPC 页；在重启之前 SGX 可能停止工作。"
    ),
    "There is no device to ask.": "没有可供查询的设备。",
    "Whether the driver manages memory dynamically could not be read.": "无法读取驱动是否支持动态内存管理。",
    "The driver cannot change an enclave's memory after its start; Linux can from 6.0 on.": (
        "驱动不能在 Enclave 启动后改变其内存；Linux 从 6.0 起可以。"
    ),
    # devices
    "SGX kernel device": "SGX 内核设备",
    "Device node": "设备节点",
    "/dev allows execution": "/dev 允许执行",
    "Opens for reading and writing": "可以读写打开",
    "Links /dev/sgx/enclave and /dev/sgx/provision": "链接 /dev/sgx/enclave 和 /dev/sgx/provision",
    "Enclaves at address 0": "位于地址 0 的 Enclave",
    "Provision device": "Provision 设备",
    "Right to the provisioning key": "使用 provisioning 密钥的权限",
    "Whether there is an SGX device could not be read.": "无法读取是否存在 SGX 设备。",
    "The kernel has an SGX driver, but /dev has no node for it.": "内核有 SGX 驱动，但 /dev 中没有对应的节点。",
    "The mounted file systems could not be read.": "无法读取已挂载的文件系统。",
    "{mount} is mounted with noexec, so enclave pages cannot be mapped as executable.": (
        "{mount} 以 noexec 方式挂载，Enclave 页无法映射为可执行。"
    ),
    "{path} is in use by another program.": "{path} 正被另一个程序占用。",
    "{path} cannot be opened: {reason}.": "无法打开 {path}：{reason}。",
    "Whether {path} opens was not tried.": "没有尝试打开 {path}。",
    "This user may not open {path}.": "当前用户无权打开 {path}。",
    "The container's user may not open {path}: it lacks the host's group number {gid}.": (
        "容器内的用户无权打开 {path}：缺少宿主机的组号 {gid}。"
    ),
    "{path} is open to root only: no udev rule gives it to a group.": (
        "{path} 只对 root 开放：没有 udev 规则把它分配给用户组。"
    ),
    "This user's group may open {path}, but the system refuses it: a device cgroup or a security module.": (
        "当前用户所在的组有权打开 {path}，但被系统拒绝：可能是设备 cgroup 或安全模块。"
    ),
    "The user is in group {group}, but this session began before that.": (
        "用户已在 {group} 组中，但当前会话在加入之前就已开始。"
    ),
    "The user is not in group {group}, which owns {path}.": "用户不在拥有 {path} 的 {group} 组中。",
    "/dev/sgx/enclave is a link to nothing.": "/dev/sgx/enclave 是失效的链接。",
    "There is no /dev/sgx/enclave; only software from before PSW 2.13 looks for it.": (
        "没有 /dev/sgx/enclave；只有 PSW 2.13 之前的软件才需要它。"
    ),
    "There is no /dev/sgx_provision, so no quoting enclave can be launched.": (
        "没有 /dev/sgx_provision，无法启动 Quoting Enclave。"
    ),
    "Who may use the provisioning key could not be read.": "无法读取谁有权使用 provisioning 密钥。",
    "This user may not open {path}; quotes then have to be made by AESM.": (
        "当前用户无权打开 {path}；quote 只能由 AESM 生成。"
    ),
    "AESM may not open {path}, so its quoting enclave cannot be launched.": (
        "AESM 无权打开 {path}，其 Quoting Enclave 无法启动。"
    ),
    "vm.mmap_min_addr could not be read.": "无法读取 vm.mmap_min_addr。",
    "Enclaves that begin at address 0 cannot be mapped (vm.mmap_min_addr is {lowest}); few need it.": (
        "无法映射从地址 0 开始的 Enclave（vm.mmap_min_addr 为 {lowest}）；很少有程序需要。"
    ),
    # containers
    "Container": "容器",
    "Container was given the device": "容器已获得设备",
    "Whether this is a container could not be read.": "无法读取这里是否为容器。",
    "This is not a container.": "这不是容器。",
    "The host has an SGX device, but this container was not given it.": "宿主机有 SGX 设备，但没有传给这个容器。",
    # launch test
    "Any enclave loader": "任一 Enclave 加载器",
    "Able to launch enclaves": "能够启动 Enclave",
    "Debug mode": "调试模式",
    "Production mode": "生产模式",
    "Production mode (Intel whitelisted)": "生产模式（Intel 白名单）",
    "Launching an enclave was not tried.": "没有尝试启动 Enclave。",
    "Launching an enclave was not tried: there is no device.": "没有尝试启动 Enclave：没有设备。",
    "Intel's launch whitelist ended with PSW 2.28; it is not tried.": (
        "Intel 的启动白名单已随 PSW 2.28 终止；不再尝试。"
    ),
    "EINIT wants a launch token: the processor's launch control is not flexible or not unlocked.": (
        "EINIT 要求启动令牌：处理器不支持灵活启动控制（FLC），或未解锁。"
    ),
    "EINIT refused the enclave with {status}.": "EINIT 拒绝了 Enclave：{status}。",
    "{step} failed: there is no free enclave memory.": "{step} 失败：没有空闲的 Enclave 内存。",
    "{step} failed: enclave pages may not be mapped as executable.": "{step} 失败：Enclave 页不能映射为可执行。",
    "{step} failed: this user may not launch this enclave.": "{step} 失败：当前用户无权启动该 Enclave。",
    "{step} failed: processor or driver does not accept the enclave.": "{step} 失败：处理器或驱动不接受该 Enclave。",
    "{step} failed.": "{step} 失败。",
    # packages
    "libsgx_enclave_common": "libsgx_enclave_common",
    "Platform software packages": "平台软件（PSW）软件包",
    "PSW version": "PSW 版本",
    "No packages that PSW 2.28 removed": "没有 PSW 2.28 已移除的软件包",
    "The installed packages could not be read.": "无法读取已安装的软件包。",
    "None of Intel's platform software is installed.": "没有安装 Intel 平台软件（PSW）。",
    "The platform software is {version}, from before 2.28: made for EPID, whose service has ended.": (
        "平台软件（PSW）版本为 {version}，早于 2.28：它面向 EPID，而 EPID 服务已经终止。"
    ),
    "Packages from before and after PSW 2.28 are installed together.": "同时安装了 PSW 2.28 之前和之后的软件包。",
    "Packages are installed that PSW 2.28 has removed; they serve EPID and launch tokens only.": (
        "安装了 PSW 2.28 已移除的软件包；它们只用于 EPID 和启动令牌。"
    ),
    "The library folders could not be read.": "无法读取库目录。",
    "libsgx_enclave_common is not installed; only programs of Intel's SDK need it.": (
        "没有安装 libsgx_enclave_common；只有使用 Intel SDK 的程序需要它。"
    ),
    "Repository fits this release": "软件源与发行版匹配",
    "Signing keys of repositories": "软件源签名密钥",
    "There is no apt here, or it could not be read.": "这里没有 apt，或无法读取。",
    "An entry of apt's sources is malformed, so apt refuses all of them: {path}.": (
        "apt 软件源中有格式错误的条目，apt 会因此拒绝全部软件源：{path}。"
    ),
    "The repository is for {suite}, but this is {codename}; packages will not install.": (
        "软件源面向 {suite}，而本机是 {codename}；软件包将无法安装。"
    ),
    "When the facts were read is not recorded.": "没有记录采集时间。",
    "The signing key of {owner} expired on {day}; apt refuses its packages.": (
        "{owner} 的签名密钥已于 {day} 过期；apt 会拒绝其软件包。"
    ),
    "The signing key of {owner} expires on {day}.": "{owner} 的签名密钥将于 {day} 过期。",
    # AESM
    "AESM service": "AESM 服务",
    "Installed": "已安装",
    "Running": "正在运行",
    "Socket accepts connections": "套接字可以连接",
    "Answers requests": "响应请求",
    "Generation": "代次",
    "Quote plug-ins": "Quote 插件",
    "Whether AESM listens was not tried.": "没有尝试 AESM 是否在监听。",
    "AESM does not listen.": "AESM 没有在监听。",
    "In a container, AESM is the host's affair.": "在容器中，AESM 由宿主机负责。",
    "AESM is not installed.": "没有安装 AESM。",
    "More than one AESM is running, and only one has the socket.": "运行着不止一个 AESM，只有一个拥有套接字。",
    "The running services could not be read.": "无法读取正在运行的服务。",
    "AESM is installed, but not running.": "AESM 已安装，但没有运行。",
    "AESM's socket is not in this container.": "容器中没有 AESM 的套接字。",
    "{path} is left over: no AESM listens there any more.": "{path} 是残留文件：已没有 AESM 在监听。",
    "There is no socket {path}.": "没有套接字 {path}。",
    "This user may not connect to {path}.": "当前用户无权连接 {path}。",
    "Connecting to {path} failed: {reason}.": "连接 {path} 失败：{reason}。",
    "AESM was not asked anything.": "没有向 AESM 发出请求。",
    "AESM accepts connections but answers nothing.": "AESM 接受连接，但没有任何响应。",
    "This AESM is from before PSW 2.28: it still answers requests of EPID and the launch enclave.": (
        "这个 AESM 早于 PSW 2.28：它仍然响应 EPID 和 Launch Enclave 的请求。"
    ),
    "AESM's generation could not be told.": "无法判断 AESM 的代次。",
    "AESM lacks the plug-in quote-ex, so nothing can ask it for quotes (error 30).": (
        "AESM 缺少 quote-ex 插件，无法向它请求 quote（错误 30）。"
    ),
    "AESM has no ECDSA quote provider: its plug-in is missing, or its quoting enclave did not load (error 38).": (
        "AESM 没有 ECDSA quote 提供者：缺少插件，或其 Quoting Enclave 未能加载（错误 38）。"
    ),
    "AESM answers with error {code} ({name}).": "AESM 返回错误 {code}（{name}）。",
    "AESM does not know how to make DCAP quotes: it is from before PSW 2.8.": (
        "AESM 不会生成 DCAP quote：它早于 PSW 2.8。"
    ),
    # quotes
    "Remote attestation": "远程证明",
    "Quote provider library": "Quote 提供库（QPL）",
    "Quote provider configuration": "Quote 提供库（QPL）配置",
    "PCCS answers": "PCCS 有响应",
    "Quotes can be made": "能够生成 quote",
    "Intel's and Azure's quote providers are both installed; which one is used is left to chance.": (
        "同时安装了 Intel 和 Azure 的 Quote 提供库；使用哪一个全凭运气。"
    ),
    "The quote provider library is there, but not under the name libdcap_quoteprov.so.1.": (
        "Quote 提供库存在，但名称不是 libdcap_quoteprov.so.1。"
    ),
    "In a container, the quote provider is AESM's affair, outside.": "在容器中，Quote 提供库由容器外的 AESM 负责。",
    "The quote provider library is not installed, so no certificate for quotes can be fetched.": (
        "没有安装 Quote 提供库，无法获取 quote 所需的证书。"
    ),
    "The quote provider's configuration could not be read.": "无法读取 Quote 提供库的配置。",
    "There is no configuration of the quote provider.": "没有 Quote 提供库的配置。",
    "There is no configuration of the quote provider; it then asks {url}.": (
        "没有 Quote 提供库的配置；它会访问 {url}。"
    ),
    "{path}: {problem}.": "{path}：{problem}。",
    "Whether the PCCS answers was not tried.": "没有尝试 PCCS 是否有响应。",
    "No PCCS is configured that could be asked.": "没有配置可以访问的 PCCS。",
    "{url} has a certificate that this host does not trust: {reason}.": "本机不信任 {url} 的证书：{reason}。",
    "{url} answers with HTTP status {status}.": "{url} 返回 HTTP 状态 {status}。",
    "{url} does not answer: {reason}.": "{url} 没有响应：{reason}。",
    "AESM finds no SGX device.": "AESM 找不到 SGX 设备。",
    "AESM does not reach the PCCS.": "AESM 无法访问 PCCS。",
    "There is no free enclave memory for the quoting enclave.": "没有空闲的 Enclave 内存供 Quoting Enclave 使用。",
    "AESM lacks the plug-in for quotes, or it did not start.": "AESM 缺少 quote 插件，或插件未能启动。",
    "AESM's ECDSA provider did not start; its quoting enclave may not have loaded.": (
        "AESM 的 ECDSA 提供者未能启动；其 Quoting Enclave 可能没有加载成功。"
    ),
    "AESM could not load the provisioning certification enclave.": (
        "AESM 未能加载 Provisioning Certification Enclave（PCE）。"
    ),
    "AESM could not load the quote provider library.": "AESM 未能加载 Quote 提供库。",
    "The attestation key is not certified: no certificate for this platform could be fetched.": (
        "证明密钥没有得到认证：无法获取本平台的证书。"
    ),
    "The PCCS sent a certificate that does not fit this platform.": "PCCS 返回的证书与本平台不符。",
    "Neither Intel nor the PCCS has a certificate for this platform: it is not registered.": (
        "Intel 和 PCCS 都没有本平台的证书：平台尚未注册。"
    ),
    "AESM could not load its quoting enclave.": "AESM 未能加载其 Quoting Enclave。",
    "Quotes may be made inside applications, without AESM; that was not tried.": (
        "quote 可能由应用程序自行生成，而不经过 AESM；没有尝试。"
    ),
    "Nothing on this host makes quotes.": "本机没有任何程序能生成 quote。",
    "AESM was not asked for the means to quote.": "没有向 AESM 请求生成 quote 的前置信息。",
    # registration
    "Production processor": "量产处理器",
    "Platform registered with Intel": "平台已在 Intel 注册",
    "A virtual machine is registered by its host.": "虚拟机由其宿主机注册。",
    "Registering this platform with Intel failed: {reason} (error {error}).": (
        "在 Intel 注册本平台失败：{reason}（错误 {error}）。"
    ),
    "an unexpected error": "意外错误",
    "too little memory": "内存不足",
    "no network": "网络不可用",
    "a wrong parameter": "参数错误",
    "an error in Intel's service": "Intel 服务出错",
    "no answer from Intel's service in time": "Intel 服务超时未响应",
    "a protocol error with the BIOS": "与 BIOS 之间的协议错误",
    "not authorised": "未授权",
    "a malformed request": "请求格式错误",
    "the wrong registration service": "注册服务不正确",
    "a package that is invalid or revoked": "处理器封装无效或已被吊销",
    "a package that Intel does not know: pre-production parts or unlocked debugging": (
        "Intel 不认识的处理器封装：非量产部件，或调试功能未锁定"
    ),
    "packages that do not fit each other": "处理器封装互不匹配",
    "an invalid manifest": "平台清单（manifest）无效",
    "a platform that Intel does not know": "Intel 不认识的平台",
    "an invalid request to add a package": "添加处理器封装的请求无效",
    "an error of the BIOS": "BIOS 错误",
    "The firmware takes itself for registered, but Intel has no certificate for this platform.": (
        "固件认为平台已注册，但 Intel 没有本平台的证书。"
    ),
    "This platform has {count} packages and must be registered; whether it is could not be read.": (
        "本平台有 {count} 个处理器封装，必须注册；无法读取是否已注册。"
    ),
    "Whether the platform is registered could not be read; only server platforms must be.": (
        "无法读取平台是否已注册；只有服务器平台必须注册。"
    ),
    "The platform is not registered with Intel, and the BIOS has automatic registration turned off.": (
        "平台没有在 Intel 注册，并且 BIOS 关闭了自动注册。"
    ),
    "The platform is not registered with Intel, so there is no certificate for its quotes.": (
        "平台没有在 Intel 注册，因此其 quote 没有证书。"
    ),
    "The processor's registers could not be read.": "无法读取处理器的寄存器。",
    "The processor is a pre-production part or unlocked for debugging; Intel certifies none such.": (
        "处理器是非量产部件，或调试功能未锁定；Intel 不为其签发证书。"
    ),
    # host
    "Host": "主机",
    "Clock": "时钟",
    "The clock is off by {offset}.": "时钟偏差为 {offset}。",
    "Whether the clock is right could not be read.": "无法读取时钟是否准确。",
    "Nothing keeps the clock: it may be off, and will be.": "没有时间同步服务：时钟可能不准，而且迟早会不准。",
    # Kubernetes
    "Kubernetes node": "Kubernetes 节点",
    "Node known and ready": "节点已知且就绪",
    "SGX devices offered to pods": "向 Pod 提供 SGX 设备",
    "Enclave memory listed": "已登记 Enclave 内存",
    "Labelled for SGX": "带有 SGX 标签",
    "No credentials for a Kubernetes cluster were found.": "没有找到 Kubernetes 集群的凭据。",
    "The Kubernetes cluster could not be asked.": "无法查询 Kubernetes 集群。",
    "Which node of the cluster this host is could not be told.": "无法判断本机是集群中的哪个节点。",
    "Node {name} is not ready, or is closed to new pods.": "节点 {name} 未就绪，或不接受新的 Pod。",
    "Node {name} offers pods no SGX devices: the device plug-in does not run there.": (
        "节点 {name} 没有向 Pod 提供 SGX 设备：设备插件没有在其上运行。"
    ),
    "Node {name} does not list its enclave memory ({resource}), so pods that ask for it stay pending.": (
        "节点 {name} 没有登记 Enclave 内存（{resource}），请求它的 Pod 会一直处于 Pending。"
    ),
    "Node {name} has no label for SGX, so the pods of the device plug-in are not placed on it.": (
        "节点 {name} 没有 SGX 标签，设备插件的 Pod 不会调度到它上面。"
    ),
    # hosts of virtual machines
    "Host of virtual machines": "虚拟机宿主机",
    "KVM": "KVM",
    "Kernel built with SGX for guests": "内核编译时包含面向虚拟机的 SGX",
    "EPC device for guests": "面向虚拟机的 EPC 设备",
    "QEMU 6.2 or newer": "QEMU 6.2 或更新",
    "libvirt lets guests use it": "libvirt 允许虚拟机使用",
    "Whether KVM is there could not be read.": "无法读取是否有 KVM。",
    "VT-x is off, so there is no KVM.": "VT-x 已关闭，因此没有 KVM。",
    "KVM is not loaded.": "没有加载 KVM。",
    "Whether the kernel is built with SGX for guests could not be read.": (
        "无法读取内核编译时是否包含面向虚拟机的 SGX。"
    ),
    "The kernel is built without SGX for guests.": "内核编译时未包含面向虚拟机的 SGX。",
    "There is no /dev/sgx_vepc, which gives enclave memory to guests.": (
        "没有为虚拟机提供 Enclave 内存的 /dev/sgx_vepc。"
    ),
    "This user may not open /dev/sgx_vepc; QEMU must run as one that may.": (
        "当前用户无权打开 /dev/sgx_vepc；QEMU 必须以有权限的用户运行。"
    ),
    "Whether QEMU is installed could not be read.": "无法读取是否安装了 QEMU。",
    "QEMU is not installed.": "没有安装 QEMU。",
    "QEMU's version could not be read.": "无法读取 QEMU 的版本。",
    "QEMU {version} does not know SGX; 6.2 is the first.": "QEMU {version} 不支持 SGX；从 6.2 开始支持。",
    "libvirt's configuration could not be read.": "无法读取 libvirt 的配置。",
    "libvirt does not let its guests open /dev/sgx_vepc.": "libvirt 不允许其虚拟机打开 /dev/sgx_vepc。",
    # firmware and hardware: what to do
    (
        "Enter the BIOS set-up and set “SW Guard Extensions (SGX)” to Enabled; on a Xeon, first enable “Total "
        "Memory Encryption (TME)”."
    ): (
        "进入 BIOS 设置，将“SW Guard Extensions (SGX)”设为 Enabled；在 Xeon 上要先启用“"
        "Total Memory Encryption (TME)”。"
    ),
    "Enter the BIOS set-up and give SGX memory: set “PRMRR size” (“SGX reserved memory size”) above zero.": (
        "进入 BIOS 设置，为 SGX 分配内存：将“PRMRR size”（“SGX reserved memory size”）设为大于零。"
    ),
    "Enter the BIOS set-up and set “SGX Launch Control Policy” to Unlocked.": (
        "进入 BIOS 设置，将“SGX Launch Control Policy”设为 Unlocked。"
    ),
    "Update the BIOS; if that does not help, ask the vendor whether this board supports SGX.": (
        "更新 BIOS；如果无效，请向厂商确认主板是否支持 SGX。"
    ),
    "Enter the BIOS set-up and choose Enabled instead of Software Controlled for SGX.": (
        "进入 BIOS 设置，将 SGX 从 Software Controlled 改为 Enabled。"
    ),
    "Reboot: SGX is already scheduled to be enabled at the next boot.": "重启：SGX 已安排在下次启动时启用。",
    "Enter the BIOS set-up and enable “Intel Virtualization Technology (VT-x)”.": (
        "进入 BIOS 设置，启用“Intel Virtualization Technology (VT-x)”。"
    ),
    "Disable Hyper-Threading in the BIOS set-up.": "在 BIOS 设置中关闭超线程。",
    (
        "Use a machine with SGX: a Xeon Scalable of the 3rd generation or later, a Xeon E-2300, or an SGX "
        "instance of a cloud (Azure DCsv3/DCdsv3, Alibaba g7t/c7t/r7t, Tencent M6ce)."
    ): (
        "使用带 SGX 的机器：第 3 代或更新的 Xeon 可扩展处理器、Xeon E-2300，或云上的 SGX 实例（Azure DCsv3/DCdsv3"
        "、阿里云 g7t/c7t/r7t、腾讯云 M6ce）。"
    ),
    (
        "Choose an instance type that offers SGX (Azure DCsv3/DCdsv3, Alibaba g7t/c7t/r7t, Tencent M6ce); other "
        "types hide it from the guest."
    ): (
        "选择提供 SGX 的实例规格（Azure DCsv3/DCdsv3、阿里云 g7t/c7t/r7t、腾讯云 M6ce）；其他规格对虚拟机隐藏了 SGX。"
    ),
    "If the host is yours and has SGX, give it to this guest; run `sgxkit doctor --for vm-host` on the host.": (
        "如果宿主机由您管理并支持 SGX，请将其提供给这台虚拟机；在宿主机上运行 `sgxkit doctor --for vm-host`。"
    ),
    "Run the doctor as root, so that it can read the processor's registers and the firmware's settings.": (
        "以 root 身份运行 doctor，以便读取处理器寄存器和固件设置。"
    ),
    (
        "Enable SGX in the BIOS set-up; or, as this firmware leaves it to software, ask for it through its EFI "
        "variable EPCSW with Intel's tool (some firmware forgets it)."
    ): (
        "在 BIOS 设置中启用 SGX；或者，由于该固件交由软件控制，可用 Intel 的工具通过 EFI 变量 EPCSW 申请启用（有"
        "些固件不会保存）。"
    ),
    # kernel: what to do
    "Install a kernel of this distribution of version 5.11 or newer, keep the old one, and reboot into it.": (
        "安装本发行版提供的 5.11 或更新的内核，保留旧内核，然后重启进入新内核。"
    ),
    "Use a kernel that is built with CONFIG_X86_SGX=y; the driver is part of the kernel and not a module.": (
        "使用编译时设置了 CONFIG_X86_SGX=y 的内核；驱动是内核的一部分，不是模块。"
    ),
    "Use a kernel that is built with CONFIG_X86_SGX_KVM=y.": "使用编译时设置了 CONFIG_X86_SGX_KVM=y 的内核。",
    "Read what the kernel says about SGX at boot.": "查看内核启动时关于 SGX 的信息。",
    "Stop all enclaves, reboot, and update the kernel: it lost EPC pages that only a reboot brings back.": (
        "停止所有 Enclave，重启并更新内核：丢失的 EPC 页只有重启才能恢复。"
    ),
    "Remove nosgx from the kernel's command line and reboot.": "从内核命令行中删除 nosgx 并重启。",
    "Remove the old driver {module} and reboot, so that the kernel's own driver works alone.": (
        "卸载旧驱动 {module} 并重启，只使用内核自带的驱动。"
    ),
    "Only for enclaves that must start at address 0: allow mappings there.": (
        "仅针对必须从地址 0 开始的 Enclave：允许在该处映射。"
    ),
    # devices: what to do
    "Add the user to group {group}, and log in again.": "将用户加入 {group} 组，然后重新登录。",
    "Log out and in again: the membership of {group} does not reach sessions that were already open.": (
        "注销后重新登录：{group} 组的成员身份对已打开的会话不生效。"
    ),
    "Let udev give the enclave device to group sgx, as systemd 248 and later does by itself.": (
        "让 udev 把 Enclave 设备分配给 sgx 组；systemd 248 及以后版本会自动完成。"
    ),
    "Give the provision device to group sgx_prv and let AESM in; restarting AESM does it, or by hand:": (
        "把 Provision 设备分配给 sgx_prv 组，并让 AESM 加入；重启 AESM 即可，或手动执行："
    ),
    "Mount /dev without noexec, now and at every boot.": "去掉 /dev 的 noexec 挂载选项，立即生效并在每次启动时生效。",
    "If old software needs /dev/sgx/enclave, let udev make the links; links made by hand vanish at reboot.": (
        "如果旧软件需要 /dev/sgx/enclave，请让 udev 创建链接；手工创建的链接在重启后消失。"
    ),
    "The kernel has the device, but /dev does not show it: let udev make the node.": (
        "内核有该设备，但 /dev 中没有：让 udev 创建节点。"
    ),
    "Find out who holds the device.": "查出占用设备的程序。",
    # AESM and packages: what to do
    "Start AESM, now and at every boot, and read its log if it does not stay up.": (
        "启动 AESM 并设为开机启动；如果它不能保持运行，请查看日志。"
    ),
    "If AESM runs in a container, restart that one; only one AESM may own the socket.": (
        "如果 AESM 运行在容器中，请重启该容器；套接字只能由一个 AESM 拥有。"
    ),
    "Read AESM's log: its error code does not tell more.": "查看 AESM 的日志：错误码不能说明更多。",
    "Run only one AESM: the one that starts later takes the socket away from the other.": (
        "只运行一个 AESM：后启动的会抢走先启动的套接字。"
    ),
    "Free enclave memory: stop other enclaves or guests, or enlarge the EPC in the BIOS set-up.": (
        "释放 Enclave 内存：停止其他 Enclave 或虚拟机，或在 BIOS 设置中增大 EPC。"
    ),
    "Install Intel's packages for DCAP quotes: AESM, its quote plug-ins and the quote provider.": (
        "安装 Intel 的 DCAP quote 软件包：AESM、其 quote 插件和 Quote 提供库。"
    ),
    "Install AESM with its quote plug-ins and start it.": "安装 AESM 及其 quote 插件，并启动它。",
    "Install the quote-ex and ECDSA plug-ins, and restart AESM.": "安装 quote-ex 和 ECDSA 插件，并重启 AESM。",
    "Install the quote provider library; no other package brings it along.": (
        "安装 Quote 提供库；没有其他软件包会自动带上它。"
    ),
    "Remove the packages that no longer exist, and install the current ones for DCAP quotes.": (
        "卸载已不再提供的软件包，安装当前的 DCAP quote 软件包。"
    ),
    "Remove packages that conflict: {names}.": "卸载有冲突的软件包：{names}。",
    "Fetch the repository's current signing key and compare its fingerprint.": "下载软件源当前的签名密钥并核对指纹。",
    "Replace the entry by the one for this release.": "将该条目替换为适合本发行版的条目。",
    # quotes and registration: what to do
    "Write a configuration that names your PCCS (here: the service for this host), and restart AESM.": (
        "写入指向您的 PCCS 的配置（此处为适合本机的服务），并重启 AESM。"
    ),
    "Correct the file at the place named above, and restart AESM; it is read once per process.": (
        "在上述位置修正文件，并重启 AESM；每个进程只读取一次该文件。"
    ),
    "Find out why the service does not answer: address, DNS, proxy, firewall, or a PCCS that is down.": (
        "查明服务没有响应的原因：地址、DNS、代理、防火墙，或 PCCS 未运行。"
    ),
    "Give the PCCS a trusted certificate, add its CA to the system, or set use_secure_cert to false.": (
        "为 PCCS 配置受信任的证书，或将其 CA 加入系统，或将 use_secure_cert 设为 false。"
    ),
    "Link the library to the name that is looked for, or install the package that does.": (
        "将库链接为程序查找的名称，或安装会自动创建链接的软件包。"
    ),
    "Register the platform with Intel by the registration agent, and reboot.": (
        "通过注册代理在 Intel 注册平台，并重启。"
    ),
    "Or without a reboot: send the platform manifest to Intel or to your PCCS by hand.": (
        "或者无需重启：手动将平台清单（manifest）发送给 Intel 或您的 PCCS。"
    ),
    "Enter the BIOS set-up and enable “SGX Auto MP Registration”.": (
        "进入 BIOS 设置，启用“SGX Auto MP Registration”。"
    ),
    (
        "Enter the BIOS set-up and choose “SGX Factory Reset”, so that the platform makes a new manifest to register."
    ): ("进入 BIOS 设置，选择“SGX Factory Reset”，使平台生成新的清单（manifest）以供注册。"),
    "Read the registration agent's log; its unit being inactive (dead) is normal.": (
        "查看注册代理的日志；其单元处于 inactive (dead) 是正常的。"
    ),
    "Use a production processor with production microcode and debugging locked; Intel registers no other.": (
        "使用量产处理器和量产微码，并锁定调试功能；Intel 不注册其他平台。"
    ),
    "Make a quote with an application of yours, or install AESM, which can be asked without an enclave.": (
        "用您的应用程序生成一个 quote，或安装 AESM：无需 Enclave 即可查询它。"
    ),
    # surroundings: what to do
    "Install and start a time service, and step the clock once.": "安装并启动时间同步服务，并立即校准一次时钟。",
    "Start the container again with the host's devices.": "带上宿主机的设备重新启动容器。",
    "Let the pod ask for SGX; the device plug-in of the cluster then gives it the device.": (
        "让 Pod 申请 SGX；集群的设备插件随后会把设备提供给它。"
    ),
    "Give the container's user the group number that owns the device on the host.": (
        "为容器内的用户添加宿主机上拥有该设备的组号。"
    ),
    "Give the container the folder of AESM's socket (the folder, so that it survives a restart of AESM).": (
        "将 AESM 套接字所在目录挂载进容器（挂载目录，这样 AESM 重启后仍然有效）。"
    ),
    (
        "The container runtime mounts /dev with noexec (some releases of CRI-O from 1.25 on do); update it or use "
        "another runtime."
    ): ("容器运行时以 noexec 挂载 /dev（CRI-O 从 1.25 起的某些版本如此）；请更新或更换运行时。"),
    "Install the SGX device plug-in with node feature discovery, which offers SGX to pods.": (
        "安装 SGX 设备插件和 Node Feature Discovery，以便向 Pod 提供 SGX。"
    ),
    "Let node feature discovery label the node, or label it yourself, so that the plug-in's pods come to it.": (
        "让 Node Feature Discovery 为节点打标签，或手动打标签，使插件的 Pod 能调度到该节点。"
    ),
    "Let a rule of node feature discovery publish the EPC as the resource sgx.intel.com/epc.": (
        "通过 Node Feature Discovery 规则将 EPC 发布为资源 sgx.intel.com/epc。"
    ),
    "Run the doctor where it finds credentials for the cluster.": "在能找到集群凭据的环境中运行 doctor。",
    "Make the node ready and schedulable first.": "先使节点就绪并可调度。",
    "Load KVM; if that fails, VT-x is off in the BIOS set-up, or this host is itself a guest without it.": (
        "加载 KVM；如果失败，说明 BIOS 中关闭了 VT-x，或本机自身就是没有 VT-x 的虚拟机。"
    ),
    "Let libvirt's guests open the EPC device: add it to cgroup_device_acl.": (
        "允许 libvirt 的虚拟机打开 EPC 设备：将其加入 cgroup_device_acl。"
    ),
    "Install QEMU 6.2 or later, the first with SGX.": "安装 QEMU 6.2 或更新版本，从该版本开始支持 SGX。",
    # quote provider configuration
    "a string": "字符串",
    "true or false": "true 或 false",
    "a whole number of 32 bits": "32 位整数",
    "a number": "数字",
    "an object": "对象",
    "line {line}, column {column} (offset {offset}): {problem}; the library ignores the whole file": (
        "第 {line} 行第 {column} 列（偏移 {offset}）：{problem}；该库会忽略整个文件"
    ),
    "the file holds one JSON value, but not an object with settings": "文件是一个 JSON 值，但不是包含设置的对象",
    "{key} is given twice; the first one counts": "{key} 出现两次；以第一个为准",
    "{key} must be {wanted}, but is {value}; the library ignores it without a word": (
        "{key} 必须是{wanted}，实际为 {value}；该库会忽略它且不作提示"
    ),
    'tcb_update_type must be "standard" or "early", not {value}; the library ignores the whole file': (
        'tcb_update_type 必须是 "standard" 或 "early"，而不是 {value}；该库会忽略整个文件'
    ),
    "{key} is more than {limit} hours; the library takes {limit}": "{key} 超过 {limit} 小时；该库按 {limit} 处理",
    "{key} is not a setting; it is ignored": "{key} 不是设置项；会被忽略",
    "{key} is ignored: it must be written {meant}": "{key} 会被忽略：必须写作 {meant}",
    "pccs_url is not set; the library asks {url}": "没有设置 pccs_url；该库会访问 {url}",
    "use_secure_cert is false although pccs_url is Intel's own service: nobody would notice an impostor": (
        "pccs_url 是 Intel 自己的服务，use_secure_cert 却为 false：有人冒充也无法察觉"
    ),
    "{key} is not an http or https address: {url}": "{key} 不是 http 或 https 地址：{url}",
    "{key} must end with a slash, because the library appends the request to it as it stands: {url}": (
        "{key} 必须以斜杠结尾，因为该库会把请求直接拼接在后面：{url}"
    ),
    "line {line} is not a setting; it is passed over": "第 {line} 行不是设置项；会被跳过",
    "the file is neither JSON nor KEY=value lines; the library works with its defaults": (
        "文件既不是 JSON，也不是 KEY=value 格式；该库使用默认值"
    ),
    "the file is in the old KEY=value format, which lacks newer settings": (
        "文件使用旧的 KEY=value 格式，不支持较新的设置"
    ),
    "{key} does not fit 32 bits, which ends the program that loads the library": (
        "{key} 超出 32 位范围，会导致加载该库的程序终止"
    ),
    "the file is empty": "文件为空",
    "something follows the end of the JSON value": "JSON 值结束之后还有内容",
    "a comment is not closed": "注释没有结束",
    "a single slash begins nothing": "多余的单个斜杠",
    "values are nested too deep": "嵌套过深",
    "a value is expected here": "此处应有一个值",
    "the last setting is followed by a comma": "最后一个设置之后多了逗号",
    "the name of a setting, in double quotes, is expected here": "此处应有用双引号括起的设置名",
    "a colon is missing after the name of a setting": "设置名之后缺少冒号",
    "a comma or a closing brace is missing before this place": "此处之前缺少逗号或右花括号",
    "a comma or a closing bracket is missing before this place": "此处之前缺少逗号或右方括号",
    "a string is not closed": "字符串没有结束",
    "a string goes on over the end of its line or holds a control character": "字符串跨行，或含有控制字符",
    "a backslash is followed by a character that it cannot escape": "反斜杠之后的字符不能转义",
    "a surrogate pair is broken": "代理对（surrogate pair）不完整",
    "four hexadecimal digits must follow \\u": "\\u 之后必须是四位十六进制数字",
    "digits must follow the decimal point": "小数点之后必须有数字",
    "digits must follow the exponent": "指数之后必须有数字",
    "a number is too big": "数字过大",
    # profiles
    "run enclaves": "运行 Enclave",
    "run enclaves and make quotes of them": "运行 Enclave 并为其生成 quote",
    "run an Oasis ParaTime node": "运行 Oasis ParaTime 节点",
    "run unmodified programs in Gramine": "在 Gramine 中运行未经修改的程序",
    "offer SGX to the pods of a Kubernetes cluster": "向 Kubernetes 集群的 Pod 提供 SGX",
    "give SGX to virtual machines": "向虚拟机提供 SGX",
    # report
    "yes": "是",
    "no": "否",
    "unknown": "未知",
    "not reached": "未检查",
    "does not apply": "不适用",
    "not reached: {titles}": "未检查：{titles}",
    "{first} and {second} name the same file": "{first} 与 {second} 指定了同一个文件",
    "{title} ({traits})": "{title}（{traits}）",
    "{first}; {second}": "{first}；{second}",
    "not reached: needs “{needs}”": "未检查：需要先满足“{needs}”",
    "{first}”, “{second}": "{first}”、“{second}",
    "What is missing": "缺少的条件",
    "What could not be told": "无法判断的内容",
    "Worth knowing": "值得注意",
    "as root": "以 root 身份",
    "needs a reboot": "需要重启",
    "in the BIOS set-up": "在 BIOS 设置中",
    "Ready: this host can {purpose} (profile {profile}).": "就绪：本机可以{purpose}（配置档 {profile}）。",
    "Not ready: this host cannot {purpose} (profile {profile}). {cause}": (
        "未就绪：本机不能{purpose}（配置档 {profile}）。{cause}"
    ),
    "Could not tell whether this host can {purpose} (profile {profile}). {cause}": (
        "无法判断本机能否{purpose}（配置档 {profile}）。{cause}"
    ),
    "SGX diagnosis of {host}": "{host} 的 SGX 诊断报告",
    "a host without a name": "未命名主机",
    "Operating system": "操作系统",
    "Kernel": "内核",
    "Processor": "处理器",
    "Enclave memory": "Enclave 内存",
    "Facts read": "采集时间",
    "Judged by": "判断工具",
    "Profile": "配置档",
    "All checks": "全部检查",
    "Facts, as read": "采集到的原始信息",
    "required": "必需",
    "evidence": "依据",
    # files and the command
    "{path} cannot be written: {reason}": "无法写入 {path}：{reason}",
    "name a file in a folder that you may write to": "请指定一个有写权限的目录中的文件",
    "judged from {file}, captured on {host} at {time} by {producer}": (
        "依据文件 {file} 判断，由 {producer} 于 {time} 在 {host} 上采集"
    ),
    "an unnamed host": "未命名主机",
    "an unrecorded time": "未记录的时间",
    "--json and --export - both write to standard output": "--json 和 --export - 都会写到标准输出",
    "Reading this host ...": "正在读取本机信息……",
}
