//! Nothing but its dependencies: where it is built together with agentd, the libraries below are those that the tests are
//! made with, and none is built a second time (see `build` in tests/run). What is shipped is built without it.
