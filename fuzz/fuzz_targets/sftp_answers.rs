#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natssh_broker::fuzzing::sftp_answers(bytes));
