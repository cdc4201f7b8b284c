#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natssh_broker::fuzzing::exec_request(bytes));
