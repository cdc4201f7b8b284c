#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natssh_broker::fuzzing::file_request(bytes));
