"""What the EDL files of Intel's SDK declare, so that importing them needs no SDK: names, signatures and their order.

Those of SDK 2.26. A file of that name in a search path goes before.
"""

from __future__ import annotations

from collections.abc import Mapping

BUILTIN: Mapping[str, str] = {
    "sgx_tstdc.edl": """enclave { untrusted {
        [cdecl] void sgx_oc_cpuidex([out] int cpuinfo[4], int leaf, int subleaf);
        [cdecl] int sgx_thread_wait_untrusted_event_ocall([user_check] const void* self);
        [cdecl] int sgx_thread_set_untrusted_event_ocall([user_check] const void* waiter);
        [cdecl] int sgx_thread_setwait_untrusted_events_ocall(
            [user_check] const void* waiter, [user_check] const void* self);
        [cdecl] int sgx_thread_set_multiple_untrusted_events_ocall(
            [in, count=total] const void** waiters, size_t total);
    }; };""",
    "sgx_pthread.edl": """enclave { untrusted {
        [cdecl] int pthread_wait_timeout_ocall(unsigned long long waiter, unsigned long long timeout);
        [cdecl] int pthread_create_ocall(unsigned long long self);
        [cdecl] int pthread_wakeup_ocall(unsigned long long waiter);
    }; };""",
    "sgx_tswitchless.edl": """enclave { trusted {
        public sgx_status_t sl_init_switchless([user_check] void* sl_data);
        public sgx_status_t sl_run_switchless_tworker();
    }; };""",
    "sgx_tkey_exchange.edl": """enclave { trusted {
        public sgx_status_t sgx_ra_get_ga(sgx_ra_context_t context, [out] sgx_ec256_public_t* g_a);
        public sgx_status_t sgx_ra_proc_msg2_trusted(sgx_ra_context_t context, [in] const sgx_ra_msg2_t* p_msg2,
            [in] const sgx_target_info_t* p_qe_target, [out] sgx_report_t* p_report,
            [out] sgx_quote_nonce_t* p_nonce);
        public sgx_status_t sgx_ra_get_msg3_trusted(sgx_ra_context_t context, uint32_t quote_size,
            [in] sgx_report_t* qe_report, [user_check] sgx_ra_msg3_t* p_msg3, uint32_t msg3_size);
    }; };""",
    "sgx_tprotected_fs.edl": """enclave {
        from "sgx_tstdc.edl" import *;
        from "sgx_pthread.edl" import *;
        untrusted {
            int8_t u_sgxprotectedfs_check_if_file_exists([in, string] const char* filename);
            uint8_t* u_sgxprotectedfs_exclusive_file_map([in, string] const char* filename, uint8_t read_only,
                [out] int64_t* file_size, [out] int32_t* error_code);
            int32_t u_sgxprotectedfs_file_remap([in, string] const char* filename, [in, out] uint8_t** file_addr,
                int64_t old_size, int64_t new_size);
            int32_t u_sgxprotectedfs_file_unmap([user_check] uint8_t* file_addr, int64_t file_size);
            int32_t u_sgxprotectedfs_remove([in, string] const char* filename);
            uint8_t u_sgxprotectedfs_fwrite_recovery_file([user_check] uint8_t* fileaddress,
                [in, string] const char* filename, [in, count=length] uint64_t* recovery_list, uint64_t length);
            int32_t u_sgxprotectedfs_do_file_recovery([in, string] const char* filename,
                [in, string] const char* recovery_filename);
        };
    };""",
    "sgx_ttls.edl": """enclave {
        include "sgx_report.h"
        include "sgx_qve_header.h"
        include "sgx_ql_lib_common.h"
        include "sgx_ql_quote.h"
        untrusted {
            quote3_error_t sgx_tls_get_qe_target_info_ocall(
                [out, size=target_info_size] sgx_target_info_t* p_target_info, size_t target_info_size);
            quote3_error_t sgx_tls_get_quote_size_ocall([out] uint32_t* p_quote_size);
            quote3_error_t sgx_tls_get_quote_ocall([in, size=report_size] sgx_report_t* p_report, size_t report_size,
                [out, size=quote_size] uint8_t* p_quote, uint32_t quote_size);
            quote3_error_t sgx_tls_get_supplemental_data_size_ocall([out] uint32_t* p_supplemental_data_size);
            quote3_error_t sgx_tls_verify_quote_ocall([in, size=quote_size] const uint8_t* p_quote,
                uint32_t quote_size, time_t expiration_check_date,
                [out] sgx_ql_qv_result_t* p_quote_verification_result,
                [in, out, size=qve_report_info_size] sgx_ql_qe_report_info_t* p_qve_report_info,
                size_t qve_report_info_size, [out, size=supplemental_data_size] uint8_t* p_supplemental_data,
                uint32_t supplemental_data_size);
        };
    };""",
}
