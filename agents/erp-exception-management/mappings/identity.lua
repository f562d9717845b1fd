-- Files with canonical names and headers: the generator's, or uploads made for Kontor.
mapping { name = "identity", tables = "canonical" }
